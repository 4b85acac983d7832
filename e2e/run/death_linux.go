package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// dieWithMake has the kernel send SIGTERM should make be killed, which cannot pass a
// kill -9 on. Started by hand, the program outlives its shell as programs do.
func dieWithMake() {
	if os.Getenv("MAKELEVEL") != "" {
		unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
	}
}
