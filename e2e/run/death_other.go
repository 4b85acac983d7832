//go:build unix && !linux

package main

func dieWithMake() {}
