// Package store keeps what the controller must not lose: records, the audit log and blobs.
//
// A record is bytes under a name, with a revision that rises by one with every change. A change
// names the revision that it was made from, and is refused if the record has another one by then.
// What a change adds to the audit log is written with it in one transaction. Blobs are bytes by
// their SHA-256: the HTML pages.
//
// [Bolt] keeps all of it in one file that one process has open. What a store must do is in
// conformance_test.go, apart from any one store.
package store

import "errors"

var (
	// ErrConflict is returned by a change of a record that does not have the revision that the
	// change was made from.
	ErrConflict = errors.New("the record was changed concurrently")
	// ErrNotFound is returned for a blob that is not stored.
	ErrNotFound = errors.New("not in the store")
	// ErrLocked is returned if another process has the file open.
	ErrLocked = errors.New("in use by another process")
)

// Record is what is stored under a name. It is zero if nothing was written under the name yet.
type Record struct {
	Revision uint64 // 1 after the first change
	Data     []byte
}

// AuditEntry is an entry of the audit log. The store does not look into Data.
type AuditEntry struct {
	Seq  uint64 // 1 for the first entry, and one more for each next entry
	Data []byte
}
