//go:build unix && !linux

package e2e

import "syscall"

// childAttr puts a child into a process group of its own. Only Linux has a parent-death signal: on
// other systems the children of a process that is killed keep running.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
