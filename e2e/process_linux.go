package e2e

import "syscall"

// childAttr puts a child into a process group of its own and lets the kernel kill it when its
// parent ends.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
