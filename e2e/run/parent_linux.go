package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// dieWithMake makes the kernel send this process SIGTERM when make dies: a make that is killed with
// SIGKILL cannot pass a signal on. make sets MAKELEVEL for the programs that it starts. If it is
// not set, somebody started this program by hand, and it may outlive its shell.
func dieWithMake() {
	if os.Getenv("MAKELEVEL") != "" {
		unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0) // the zeros have no meaning
	}
}
