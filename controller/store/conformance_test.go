package store

// These tests say what a store must do, whatever it keeps its data in. The test of a store calls
// testConformance with a function that opens it, as TestBoltConforms does.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// backend is the behaviour of a store that these tests check.
type backend interface {
	Epoch() uint64
	Get(ctx context.Context, name string) (Record, error)
	Swap(ctx context.Context, name string, from uint64, data []byte, audit ...[]byte) error
	Watch(name string) <-chan struct{}
	Audit(ctx context.Context, before uint64, yield func(AuditEntry) bool) error
	PutBlob(ctx context.Context, data []byte, audit ...[]byte) (string, error)
	Blob(ctx context.Context, sha string) ([]byte, error)
	Probe(ctx context.Context) error
	Close() error
}

// testConformance checks a store. open opens the store in a directory, and creates it if the
// directory is empty. Each test gets a new store.
func testConformance(t *testing.T, open func(t *testing.T, dir string) backend) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b backend)
	}{
		{"a record that was never written is zero", testMissingRecord},
		{"the revision of each record rises by one", testRevisions},
		{"a change from another revision writes nothing", testConflict},
		{"one of several concurrent changes wins each revision", testConcurrentChanges},
		{"the audit log is read newest first, in pages", testAudit},
		{"a watch reports the next change of its record", testWatch},
		{"blobs are stored by their SHA-256", testBlobs},
		{"a cancelled change writes nothing", testCancelledChange},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := open(t, t.TempDir())
			t.Cleanup(func() { b.Close() })
			test.run(t, b)
		})
	}
	t.Run("a store that is opened again has everything", func(t *testing.T) { testReopen(t, open) })
}

// mustSwap replaces a record whose revision is from, and appends audit entries.
func mustSwap(t *testing.T, b backend, name string, from uint64, data string, audit ...string) {
	t.Helper()
	var entries [][]byte
	for _, a := range audit {
		entries = append(entries, []byte(a))
	}
	if err := b.Swap(t.Context(), name, from, []byte(data), entries...); err != nil {
		t.Fatal(err)
	}
}

// expectRecord checks the revision and the data of a record. One that was never written has
// revision 0.
func expectRecord(t *testing.T, b backend, name string, revision uint64, data string) {
	t.Helper()
	rec, err := b.Get(t.Context(), name)
	if err != nil || rec.Revision != revision || string(rec.Data) != data {
		t.Fatalf("%s is revision %d, %q, %v; want %d, %q", name, rec.Revision, rec.Data, err, revision, data)
	}
}

// allEntries is the largest number of entries that a test reads, and fromNewest where it begins.
const (
	allEntries = 10
	fromNewest = 0
)

// auditLog returns SEQ=DATA for each of at most limit entries before that number, as in "2=b 1=a".
func auditLog(t *testing.T, b backend, before uint64, limit int) string {
	t.Helper()
	var entries []string
	err := b.Audit(t.Context(), before, func(e AuditEntry) bool {
		entries = append(entries, fmt.Sprintf("%d=%s", e.Seq, e.Data))
		return len(entries) < limit
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(entries, " ")
}

func testMissingRecord(t *testing.T, b backend) {
	expectRecord(t, b, "state", 0, "")
}

func testRevisions(t *testing.T, b backend) {
	mustSwap(t, b, "state", 0, "one")
	mustSwap(t, b, "state", 1, "two")
	mustSwap(t, b, "tokens", 0, "t")

	expectRecord(t, b, "state", 2, "two")
	expectRecord(t, b, "tokens", 1, "t")
}

func testConflict(t *testing.T, b backend) {
	mustSwap(t, b, "state", 0, "one", "first")
	for _, otherRevision := range []uint64{0, 2} {
		err := b.Swap(t.Context(), "state", otherRevision, []byte("x"), []byte("lost"))
		if !errors.Is(err, ErrConflict) {
			t.Fatalf("from revision %d: %v, want ErrConflict", otherRevision, err)
		}
	}

	expectRecord(t, b, "state", 1, "one")
	if got := auditLog(t, b, fromNewest, allEntries); got != "1=first" {
		t.Fatalf("audit log %s, want only the first change", got)
	}
}

// If two changes won the same revision, the revision would be lower than the number of changes.
func testConcurrentChanges(t *testing.T, b backend) {
	const goroutines, changes = 8, 5
	var won atomic.Uint64
	var running sync.WaitGroup
	for range goroutines {
		running.Go(func() {
			for range changes {
				rec, err := b.Get(t.Context(), "state")
				if err != nil {
					t.Error(err)
					return
				}

				err = b.Swap(t.Context(), "state", rec.Revision, []byte("x"))
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()

	expectRecord(t, b, "state", won.Load(), "x")
}

func testAudit(t *testing.T, b backend) {
	mustSwap(t, b, "state", 0, "", "a", "b")
	mustSwap(t, b, "state", 1, "", "c")

	for _, c := range []struct {
		before uint64
		limit  int
		want   string
	}{
		{fromNewest, allEntries, "3=c 2=b 1=a"},
		{fromNewest, 2, "3=c 2=b"},
		{2, allEntries, "1=a"},
		{1, allEntries, ""},
		{99, 1, "3=c"}, // all entries are before number 99
	} {
		if got := auditLog(t, b, c.before, c.limit); got != c.want {
			t.Errorf("%d entries before %d: %q, want %q", c.limit, c.before, got, c.want)
		}
	}
}

func testWatch(t *testing.T, b backend) {
	state, tokens := b.Watch("state"), b.Watch("tokens")
	mustSwap(t, b, "state", 0, "x")

	select {
	case <-state:
	case <-time.After(5 * time.Second):
		t.Fatal("the watch did not report the change")
	}

	select {
	case <-tokens:
		t.Fatal("the watch reported a change of another record")
	default:
	}
}

func testBlobs(t *testing.T, b backend) {
	const shaOfHello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	for range 2 {
		if sha, err := b.PutBlob(t.Context(), []byte("hello"), []byte("put")); err != nil || sha != shaOfHello {
			t.Fatalf("%s, %v; want %s", sha, err, shaOfHello)
		}
	}
	if got := auditLog(t, b, fromNewest, allEntries); got != "1=put" {
		t.Errorf("audit log %s, want an entry for the first put only", got)
	}

	if data, err := b.Blob(t.Context(), shaOfHello); err != nil || string(data) != "hello" {
		t.Fatalf("%q, %v; want hello", data, err)
	}

	const notHex = "xyz"
	notStored := strings.Repeat("0", 64)
	for _, sha := range []string{"", notHex, notStored} {
		if _, err := b.Blob(t.Context(), sha); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v, want ErrNotFound", sha, err)
		}
	}
}

func testCancelledChange(t *testing.T, b backend) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Swap(ctx, "state", 0, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want context.Canceled", err)
	}

	expectRecord(t, b, "state", 0, "")
}

func testReopen(t *testing.T, open func(t *testing.T, dir string) backend) {
	dir := t.TempDir()
	b := open(t, dir)
	mustSwap(t, b, "state", 0, "one", "a")
	sha, err := b.PutBlob(t.Context(), []byte("page"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}

	epoch := b.Epoch()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	time.Sleep(2 * time.Millisecond) // so that the epoch of a store created now, in milliseconds, would differ
	b = open(t, dir)
	defer b.Close()
	if b.Epoch() != epoch || epoch == 0 {
		t.Fatalf("epoch %d, want %d and not 0", b.Epoch(), epoch)
	}
	expectRecord(t, b, "state", 1, "one")

	mustSwap(t, b, "state", 1, "two", "b")
	if got := auditLog(t, b, fromNewest, allEntries); got != "2=b 1=a" {
		t.Fatalf("audit log %s", got)
	}
	if data, err := b.Blob(t.Context(), sha); err != nil || string(data) != "page" {
		t.Fatalf("%q, %v; want page", data, err)
	}
}
