package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Bolt is a store in one file. Its methods are safe for concurrent use. What a method has
// acknowledged is on the disk.
type Bolt struct {
	db    *bbolt.DB
	epoch uint64

	mu      sync.Mutex
	watches map[string]chan struct{} // by the name of the record
}

// The file has a bucket for its header, one for the records (8 bytes of revision in big-endian
// order, then the data), one for the audit log by sequence number, and one for blobs by SHA-256.
var (
	bucketMeta    = []byte("meta")
	bucketRecords = []byte("records")
	bucketAudit   = []byte("audit")
	bucketBlobs   = []byte("blobs")

	keyFormat = []byte("format")
	keyEpoch  = []byte("epoch")
	keyProbe  = []byte("probe")
)

// format is the version of this layout.
const format = 1

// lockTimeout is how long OpenBolt waits while another process has the file open, which may just be
// stopping.
const lockTimeout = time.Second

// OpenBolt opens the file, or creates it with the time now as its epoch. The directory must exist.
// It returns [ErrLocked] if another process keeps the file open.
func OpenBolt(path string, now time.Time) (*Bolt, error) {
	_, statErr := os.Stat(path)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("opening the store %s: %w: is another drydock serve running on this data directory?", path, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", path, err)
	}

	b := &Bolt{db: db, watches: map[string]chan struct{}{}}
	if err := b.prepare(now); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening the store %s: %w", path, err)
	}

	if errors.Is(statErr, os.ErrNotExist) {
		// bbolt syncs the file, but not the entry of a new file in its directory.
		if err := syncDir(filepath.Dir(path)); err != nil {
			db.Close()
			return nil, fmt.Errorf("creating the store %s: %w", path, err)
		}
	}
	return b, nil
}

// prepare creates what a new file lacks, and reads the header.
func (b *Bolt) prepare(now time.Time) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketRecords, bucketAudit, bucketBlobs} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}

		meta := tx.Bucket(bucketMeta)
		if v := meta.Get(keyEpoch); len(v) == 8 {
			b.epoch = binary.BigEndian.Uint64(v)
			if f := meta.Get(keyFormat); len(f) != 8 || binary.BigEndian.Uint64(f) != format {
				return fmt.Errorf("the file has format %x, but this version of drydock reads format %d: use the version that wrote the file, or a newer one", f, format)
			}
			return nil
		}

		b.epoch = uint64(now.UnixMilli())
		if err := meta.Put(keyFormat, bigEndian(format)); err != nil {
			return err
		}
		return meta.Put(keyEpoch, bigEndian(b.epoch))
	})
}

// Epoch returns when the store was created, in Unix milliseconds. Proxies that have followed
// several stores follow the one with the highest epoch.
func (b *Bolt) Epoch() uint64 { return b.epoch }

// Get returns a record.
func (b *Bolt) Get(ctx context.Context, name string) (rec Record, err error) {
	if err := ctx.Err(); err != nil {
		return rec, err
	}

	err = b.db.View(func(tx *bbolt.Tx) error {
		rec = decode(tx.Bucket(bucketRecords).Get([]byte(name)))
		return nil
	})
	if err != nil {
		return rec, fmt.Errorf("reading record %s: %w", name, err)
	}
	return rec, nil
}

// Swap replaces a record of revision from, and appends the audit entries. The record then has
// revision from+1. It returns [ErrConflict] and writes nothing if the record has another revision.
func (b *Bolt) Swap(ctx context.Context, name string, from uint64, data []byte, audit ...[]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}

	err := b.db.Update(func(tx *bbolt.Tx) error {
		records := tx.Bucket(bucketRecords)
		if decode(records.Get([]byte(name))).Revision != from {
			return ErrConflict
		}

		if err := records.Put([]byte(name), append(bigEndian(from+1), data...)); err != nil {
			return err
		}
		return appendAudit(tx, audit)
	})
	if err != nil {
		return fmt.Errorf("writing record %s: %w", name, err)
	}

	b.notify(name)
	return nil
}

// Watch returns a channel that is closed by the next change of a record. Call it before Get, so
// that no change between the two is missed.
func (b *Bolt) Watch(name string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()

	c, ok := b.watches[name]
	if !ok {
		c = make(chan struct{})
		b.watches[name] = c
	}
	return c
}

func (b *Bolt) notify(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if c, ok := b.watches[name]; ok {
		close(c)
		delete(b.watches, name)
	}
}

func appendAudit(tx *bbolt.Tx, entries [][]byte) error {
	log := tx.Bucket(bucketAudit)
	for _, entry := range entries {
		seq, err := log.NextSequence()
		if err != nil {
			return err
		}
		if err := log.Put(bigEndian(seq), entry); err != nil {
			return err
		}
	}
	return nil
}

// Audit calls each with the entries whose Seq is lower than before, newest first, until each
// returns false. With before 0 it starts at the newest entry. The data of an entry is valid only
// during the call.
func (b *Bolt) Audit(ctx context.Context, before uint64, each func(AuditEntry) bool) error {
	err := b.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketAudit).Cursor()
		k, v := c.Last()
		if before > 0 {
			if at, _ := c.Seek(bigEndian(before)); at != nil {
				k, v = c.Prev()
			} else {
				k, v = c.Last() // all entries are before it
			}
		}

		for ; k != nil; k, v = c.Prev() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !each(AuditEntry{Seq: binary.BigEndian.Uint64(k), Data: v}) {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	return nil
}

// PutBlob stores data under its SHA-256 and returns it in hex. It appends the audit entries if the
// blob was not stored before.
func (b *Bolt) PutBlob(ctx context.Context, data []byte, audit ...[]byte) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}

	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	err := b.db.Update(func(tx *bbolt.Tx) error {
		blobs := tx.Bucket(bucketBlobs)
		if blobs.Get(sum[:]) != nil {
			return nil
		}

		if err := blobs.Put(sum[:], data); err != nil {
			return err
		}
		return appendAudit(tx, audit)
	})
	if err != nil {
		return "", fmt.Errorf("storing %s: %w", name, err)
	}
	return name, nil
}

// Blob returns the blob with that SHA-256, or [ErrNotFound].
func (b *Bolt) Blob(ctx context.Context, sha string) (data []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(sha)
	if err != nil {
		return nil, ErrNotFound
	}

	err = b.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketBlobs).Get(key)
		if v == nil {
			return ErrNotFound
		}
		data = append([]byte{}, v...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", sha, err)
	}
	return data, nil
}

// Probe returns an error if the store cannot write. It finds out by writing.
func (b *Bolt) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}

	err := b.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		n := uint64(0)
		if v := meta.Get(keyProbe); len(v) == 8 {
			n = binary.BigEndian.Uint64(v)
		}
		return meta.Put(keyProbe, bigEndian(n+1))
	})
	if err != nil {
		return fmt.Errorf("writing to the store: %w", err)
	}
	return nil
}

// Close waits for transactions that are running, and closes the file.
func (b *Bolt) Close() error { return b.db.Close() }

func decode(v []byte) Record {
	if len(v) < 8 {
		return Record{}
	}
	return Record{Revision: binary.BigEndian.Uint64(v), Data: append([]byte{}, v[8:]...)}
}

func bigEndian(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
