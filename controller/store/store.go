// Package store keeps what the controller must not lose: records, the audit log and pages.
//
// A record is bytes under a name, with a revision that rises by one with every change. A change
// names the revision that it was made from, and is refused if the record has another one by then.
// What a change adds to the audit log is written with it in one transaction.
//
// [Bolt] keeps all of it in one file that one process has open.
package store

import "errors"

var (
	// ErrConflict is returned if a record has another revision than the change was made from.
	ErrConflict = errors.New("the record was changed concurrently")
	// ErrNotFound is returned for a blob that is not stored.
	ErrNotFound = errors.New("not in the store")
	// ErrLocked is returned if another process has the file open.
	ErrLocked = errors.New("in use by another process")
)

// Record is what is stored under a name. It is zero if nothing was written yet.
type Record struct {
	Revision uint64
	Data     []byte
}

// AuditEntry is an entry of the audit log. Seq rises by one with every entry.
type AuditEntry struct {
	Seq  uint64
	Data []byte
}
