//go:build unix && !linux

package e2e

import "syscall"

// childAttr returns the attributes of a child process: it leads a process group of its own. Only
// Linux (process_linux.go) can also kill a child when its parent ends: on other systems, a child
// keeps running if its parent is killed before it calls Stop or Kill.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
