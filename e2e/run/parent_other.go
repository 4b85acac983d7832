//go:build unix && !linux

package main

// dieWithMake does nothing: only Linux has a parent-death signal.
func dieWithMake() {}
