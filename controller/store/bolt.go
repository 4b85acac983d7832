package store

// This file is the store in one file, by bbolt: an embedded database with transactions, whose
// buckets map keys to values, both of them bytes. A transaction that returns an error changes
// nothing. A value is valid only during its transaction, so what a method returns is a copy.

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

// Bolt is a store in one file. Its methods are safe for concurrent use. Once a method that writes
// has returned without an error, what it wrote is on the disk.
type Bolt struct {
	db    *bbolt.DB
	epoch uint64

	mu      sync.Mutex               // guards watches
	watches map[string]chan struct{} // by the name of the record
}

// Buckets of the file, and keys in the bucket meta. All numbers are 8 bytes in big-endian order, so
// that bbolt, which orders keys by their bytes, orders numbers by their values.
var (
	bucketMeta    = []byte("meta")    // the header of the file, by the keys below
	bucketRecords = []byte("records") // by name: the revision, and then the data
	bucketAudit   = []byte("audit")   // by sequence number: an entry
	bucketBlobs   = []byte("blobs")   // by SHA-256: the data

	keyFormat = []byte("format")
	keyEpoch  = []byte("epoch")
	keyProbe  = []byte("probe") // the number of writes by Probe
)

// format is the version of this layout.
const format = 1

// numberSize is the number of bytes of a number in the file.
const numberSize = 8

// lockTimeout is how long OpenBolt waits while another process has the file open, which may just be
// stopping.
const lockTimeout = time.Second

// OpenBolt opens the file, or creates it with the time now as its epoch. The directory must exist.
// OpenBolt returns [ErrLocked] if another process keeps the file open.
func OpenBolt(path string, now time.Time) (*Bolt, error) {
	_, statErr := os.Stat(path) // before bbolt creates the file
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
		if v := meta.Get(keyEpoch); len(v) == numberSize { // the file is not new
			b.epoch = binary.BigEndian.Uint64(v)
			if f := meta.Get(keyFormat); len(f) != numberSize || binary.BigEndian.Uint64(f) != format {
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

// Get returns the record of that name. A record that was never written is zero, and is not an
// error.
func (b *Bolt) Get(ctx context.Context, name string) (rec Record, err error) {
	if err := ctx.Err(); err != nil {
		return rec, err
	}

	err = b.db.View(func(tx *bbolt.Tx) error {
		rec = decodeRecord(tx.Bucket(bucketRecords).Get([]byte(name)))
		return nil
	})
	if err != nil {
		return rec, fmt.Errorf("reading record %s: %w", name, err)
	}
	return rec, nil
}

// Swap replaces the data of a record whose revision is from, and appends entries to the audit log,
// in one transaction. The record then has the revision from+1. If the record has another revision
// than from, Swap returns [ErrConflict] and writes nothing. A record that was never written has
// revision 0.
func (b *Bolt) Swap(ctx context.Context, name string, from uint64, data []byte, audit ...[]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}

	err := b.db.Update(func(tx *bbolt.Tx) error {
		records := tx.Bucket(bucketRecords)
		if decodeRecord(records.Get([]byte(name))).Revision != from {
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

// Watch returns a channel that is closed by the next change of the record of that name. Call Watch
// before Get, so that no change between the two is missed.
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

// notify closes the channel that Watch returned for the record of that name, if it did.
func (b *Bolt) notify(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if c, ok := b.watches[name]; ok {
		close(c)
		delete(b.watches, name)
	}
}

// appendAudit appends entries to the audit log. Their sequence numbers continue those in the log,
// from 1 on.
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

// Audit calls yield for every entry whose Seq is lower than before, newest first, until
// yield returns false. If before is 0, Audit begins with the newest entry. The data of an entry is
// valid only during the call of yield.
func (b *Bolt) Audit(ctx context.Context, before uint64, yield func(AuditEntry) bool) error {
	err := b.db.View(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket(bucketAudit).Cursor()
		seq, data := cursor.Last()
		if before > 0 {
			// Seek finds the first entry that is not lower than before.
			if found, _ := cursor.Seek(bigEndian(before)); found != nil {
				seq, data = cursor.Prev()
			} else {
				seq, data = cursor.Last() // all entries are lower
			}
		}

		for ; seq != nil; seq, data = cursor.Prev() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !yield(AuditEntry{Seq: binary.BigEndian.Uint64(seq), Data: data}) {
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

// PutBlob stores data under its SHA-256, and returns that sum in hex. If the same data is stored
// already, PutBlob writes nothing, not even the audit entries.
func (b *Bolt) PutBlob(ctx context.Context, data []byte, audit ...[]byte) (sha string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}

	sum := sha256.Sum256(data)
	sha = hex.EncodeToString(sum[:])
	err = b.db.Update(func(tx *bbolt.Tx) error {
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
		return "", fmt.Errorf("storing %s: %w", sha, err)
	}
	return sha, nil
}

// Blob returns the data with that SHA-256, which is in hex, or [ErrNotFound].
func (b *Bolt) Blob(ctx context.Context, sha string) (data []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(sha)
	if err != nil {
		return nil, ErrNotFound // no data has such a sum
	}

	err = b.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketBlobs).Get(sum)
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

// Probe writes to the file, and returns an error if that fails, such as when the disk is full.
func (b *Bolt) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}

	err := b.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		var writes uint64
		if v := meta.Get(keyProbe); len(v) == numberSize {
			writes = binary.BigEndian.Uint64(v)
		}
		return meta.Put(keyProbe, bigEndian(writes+1))
	})
	if err != nil {
		return fmt.Errorf("writing to the store: %w", err)
	}
	return nil
}

// Close waits for transactions that are running, and closes the file. Afterwards every method that
// reads or writes the file returns an error.
func (b *Bolt) Close() error { return b.db.Close() }

// decodeRecord returns the record of a value in bucketRecords. For nil, which is what bbolt returns
// for a name that was never written, the record is zero.
func decodeRecord(v []byte) Record {
	if len(v) < numberSize {
		return Record{}
	}
	return Record{Revision: binary.BigEndian.Uint64(v), Data: append([]byte{}, v[numberSize:]...)}
}

// bigEndian returns n as the file has it.
func bigEndian(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// syncDir writes the entries of a directory to the disk.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
