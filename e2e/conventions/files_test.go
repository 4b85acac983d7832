package conventions

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root is the repository's root as seen from this package's tests.
const root = "../.."

type file struct {
	name string // below the root, with slashes
	data []byte
}

// files returns the repository's files, tracked or new, for which a function holds.
func files(t *testing.T, wanted func(name string) bool) (found []file) {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the repository's files: %v", err)
	}

	for name := range strings.Lines(string(out)) {
		name = strings.TrimSuffix(name, "\n")
		if !wanted(name) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // it was removed, but not from the index yet
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, file{name, data})
	}
	if len(found) == 0 {
		t.Fatal("no file was found")
	}
	return found
}

// goFiles returns all Go files, those of the modules below e2e included.
func goFiles(t *testing.T) []file {
	t.Helper()
	return files(t, func(name string) bool { return strings.HasSuffix(name, ".go") })
}
