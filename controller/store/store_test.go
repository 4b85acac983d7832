package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// backend is what every store does.
type backend interface {
	Epoch() uint64
	Get(ctx context.Context, name string) (Record, error)
	Swap(ctx context.Context, name string, from uint64, data []byte, audit ...[]byte) error
	Watch(name string) <-chan struct{}
	Audit(ctx context.Context, before uint64, each func(AuditEntry) bool) error
	PutBlob(ctx context.Context, data []byte, audit ...[]byte) (string, error)
	Blob(ctx context.Context, sha string) ([]byte, error)
	Probe(ctx context.Context) error
	Close() error
}

func TestBolt(t *testing.T) {
	conform(t, func(t *testing.T, dir string) backend {
		b, err := OpenBolt(filepath.Join(dir, "drydock.db"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

// conform is the contract of a store. open opens the same store for the same dir.
func conform(t *testing.T, open func(t *testing.T, dir string) backend) {
	ctx := t.Context()
	fresh := func(t *testing.T) backend {
		b := open(t, t.TempDir())
		t.Cleanup(func() { b.Close() })
		return b
	}
	put := func(t *testing.T, b backend, name string, from uint64, data string, audit ...string) {
		t.Helper()
		var lines [][]byte
		for _, a := range audit {
			lines = append(lines, []byte(a))
		}
		if err := b.Swap(ctx, name, from, []byte(data), lines...); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(t *testing.T, b backend, name string, revision uint64, data string) {
		t.Helper()
		rec, err := b.Get(ctx, name)
		if err != nil || rec.Revision != revision || string(rec.Data) != data {
			t.Fatalf("%s = %d %q, %v; want %d %q", name, rec.Revision, rec.Data, err, revision, data)
		}
	}
	trail := func(t *testing.T, b backend, before uint64, limit int) string {
		t.Helper()
		var lines []string
		err := b.Audit(ctx, before, func(e AuditEntry) bool {
			lines = append(lines, fmt.Sprintf("%d=%s", e.Seq, e.Data))
			return len(lines) < limit
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, " ")
	}

	t.Run("a record never written is zero", func(t *testing.T) {
		expect(t, fresh(t), "state", 0, "")
	})
	t.Run("revisions rise by one, each record on its own", func(t *testing.T) {
		b := fresh(t)
		put(t, b, "state", 0, "one")
		put(t, b, "state", 1, "two")
		put(t, b, "tokens", 0, "t")
		expect(t, b, "state", 2, "two")
		expect(t, b, "tokens", 1, "t")
	})
	t.Run("a change from another revision is refused whole", func(t *testing.T) {
		b := fresh(t)
		put(t, b, "state", 0, "one", "first")
		for _, from := range []uint64{0, 2} {
			if err := b.Swap(ctx, "state", from, []byte("x"), []byte("lost")); !errors.Is(err, ErrConflict) {
				t.Fatalf("from %d: %v, want ErrConflict", from, err)
			}
		}
		expect(t, b, "state", 1, "one")
		if got := trail(t, b, 0, 10); got != "1=first" {
			t.Fatalf("audit %s", got)
		}
	})
	t.Run("of many at once one wins each revision", func(t *testing.T) {
		b := fresh(t)
		var won atomic.Uint64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 5 {
					rec, err := b.Get(ctx, "state")
					if err != nil {
						t.Error(err)
						return
					}
					switch err := b.Swap(ctx, "state", rec.Revision, []byte("x")); {
					case err == nil:
						won.Add(1)
					case !errors.Is(err, ErrConflict):
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		expect(t, b, "state", won.Load(), "x")
	})
	t.Run("audit is read newest first, in pages", func(t *testing.T) {
		b := fresh(t)
		put(t, b, "state", 0, "", "a", "b")
		put(t, b, "state", 1, "", "c")
		for _, c := range []struct {
			before uint64
			limit  int
			want   string
		}{
			{0, 10, "3=c 2=b 1=a"},
			{0, 2, "3=c 2=b"},
			{2, 10, "1=a"},
			{1, 10, ""},
			{99, 1, "3=c"},
		} {
			if got := trail(t, b, c.before, c.limit); got != c.want {
				t.Errorf("before %d, %d of them: %q, want %q", c.before, c.limit, got, c.want)
			}
		}
	})
	t.Run("a watcher hears of the next change of its record", func(t *testing.T) {
		b := fresh(t)
		state, tokens := b.Watch("state"), b.Watch("tokens")
		put(t, b, "state", 0, "x")
		select {
		case <-state:
		case <-time.After(5 * time.Second):
			t.Fatal("not told")
		}
		select {
		case <-tokens:
			t.Fatal("told of another record's change")
		default:
		}
	})
	t.Run("blobs go by their SHA-256", func(t *testing.T) {
		b := fresh(t)
		const hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
		for range 2 {
			if sha, err := b.PutBlob(ctx, []byte("hello"), []byte("put")); err != nil || sha != hello {
				t.Fatal(sha, err)
			}
		}
		if got := trail(t, b, 0, 10); got != "1=put" {
			t.Errorf("audit %s: only the first put changed something", got)
		}
		if data, err := b.Blob(ctx, hello); err != nil || string(data) != "hello" {
			t.Fatalf("%q, %v", data, err)
		}
		for _, sha := range []string{"", "xyz", strings.Repeat("0", 64)} {
			if _, err := b.Blob(ctx, sha); !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %v, want ErrNotFound", sha, err)
			}
		}
	})
	t.Run("all of it is there after a restart", func(t *testing.T) {
		dir := t.TempDir()
		b := open(t, dir)
		put(t, b, "state", 0, "one", "a")
		sha, err := b.PutBlob(ctx, []byte("page"))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Probe(ctx); err != nil {
			t.Fatal(err)
		}
		epoch := b.Epoch()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // the epoch is that of the creation, not of the opening
		b = open(t, dir)
		defer b.Close()
		if b.Epoch() != epoch || epoch == 0 {
			t.Fatalf("epoch %d, was %d", b.Epoch(), epoch)
		}
		expect(t, b, "state", 1, "one")
		put(t, b, "state", 1, "two", "b")
		if got := trail(t, b, 0, 10); got != "2=b 1=a" {
			t.Fatalf("audit %s", got)
		}
		if data, err := b.Blob(ctx, sha); err != nil || string(data) != "page" {
			t.Fatalf("%q, %v", data, err)
		}
	})
	t.Run("what was cancelled is not written", func(t *testing.T) {
		b := fresh(t)
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if err := b.Swap(gone, "state", 0, []byte("x")); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		expect(t, b, "state", 0, "")
	})
}

func TestBoltSecondProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drydock.db")
	b, err := OpenBolt(path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, err = OpenBolt(path, time.Now())
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Fatalf("%v, want ErrLocked that names %s", err, path)
	}
}

func TestBoltBadFile(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{garbage, filepath.Join(dir, "no", "such", "folder.db")} {
		if _, err := OpenBolt(path, time.Now()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want an error that names %s", err, path)
		}
	}
}
