//go:build unix && !linux

package e2e

import "syscall"

// Only Linux has a parent-death signal: elsewhere a kill -9 of the parent leaves its
// children behind.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
