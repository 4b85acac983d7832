package e2e

import "syscall"

// childAttr returns the attributes of a child process: it leads a process group of its own, and the
// kernel kills it when its parent ends. On other systems see process_other.go.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
