package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBoltConforms(t *testing.T) {
	testConformance(t, func(t *testing.T, dir string) backend {
		b, err := OpenBolt(filepath.Join(dir, "drydock.db"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

// Two OpenBolt calls of one process exclude each other like those of two processes.
func TestOpenBoltRefusesAFileInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drydock.db")
	user, err := OpenBolt(path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()

	_, err = OpenBolt(path, time.Now())
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Fatalf("%v, want ErrLocked with the path %s", err, path)
	}
}

func TestOpenBoltRefusesABadFile(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}

	inNoFolder := filepath.Join(dir, "no", "such", "folder", "drydock.db")
	for _, path := range []string{garbage, inNoFolder} {
		if _, err := OpenBolt(path, time.Now()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want an error with the path %s", err, path)
		}
	}
}
