package wasmhost

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// This file is the part of WASI preview 1 that Envoy has for a module. Go's runtime calls it, not
// the proxy-wasm SDK. How a host call gets its parameters is in hostcall.go; a call's method u32(i)
// returns parameter i.

// The errno values of WASI preview 1 that this host returns. It implements as much of WASI as Envoy
// does: a module has its environment, the clocks, randomness, and the log as standard output and
// standard error.
const (
	esuccess Status = 0
	ebadf    Status = 8
	eexist   Status = 20
	efault   Status = 21
	einval   Status = 28
	enoent   Status = 44
	enosys   Status = 52
	enotsup  Status = 58
)

// errnoName returns the name of an errno for the trace.
func errnoName(e Status) string {
	names := map[Status]string{
		esuccess: "ESUCCESS", ebadf: "EBADF", efault: "EFAULT", einval: "EINVAL", enoent: "ENOENT",
		enosys: "ENOSYS", enotsup: "ENOTSUP",
	}
	if name, ok := names[e]; ok {
		return name
	}

	return "errno " + strconv.Itoa(int(e))
}

// errno returns a function that only returns e.
func errno(e Status) func(call) Status { return func(call) Status { return e } }

// The file descriptors that a module has.
const (
	standardOutput = 1
	standardError  = 2
)

// stdio succeeds if the file descriptor in parameter 0 is standard output or standard error, and
// does nothing.
func stdio(c call) Status {
	if fd := c.u32(0); fd != standardOutput && fd != standardError {
		return ebadf
	}
	return esuccess
}

// modernInit allows a function that did not exist before also during initialization.
const modernInit = initModern | modernOnly

// wasiFuncs are the functions of WASI. They have the signatures of proxy-wasm-cpp-host, which
// differ from those of WASI for path_link and path_symlink: Envoy does not load a module with
// others.
var wasiFuncs = []hostFunc{
	{wasi: true, name: "args_get", args: "ii", allowed: inInit, fn: errno(esuccess)},
	{wasi: true, name: "args_sizes_get", args: "ww", allowed: inInit, fn: call.argsSizes},
	{wasi: true, name: "environ_get", args: "ii", allowed: inInit, fn: call.environ},
	{wasi: true, name: "environ_sizes_get", args: "ww", allowed: inInit, fn: call.environSizes},
	{wasi: true, name: "clock_time_get", args: "ilw", allowed: inInit | inMalloc, fn: call.clock},
	{wasi: true, name: "clock_res_get", args: "iw", allowed: modernInit, fn: call.clockResolution},
	{wasi: true, name: "random_get", args: "ii", allowed: inInit, fn: call.random},
	{wasi: true, name: "sched_yield", fn: errno(esuccess)},
	{wasi: true, name: "poll_oneoff", args: "iiiw", allowed: initModern | mallocModern, fn: call.poll},
	{wasi: true, name: "proc_exit", args: "i", fn: call.exit},
	{wasi: true, name: "fd_write", args: "iiiw", allowed: inInit | inMalloc, fn: call.write},
	{wasi: true, name: "fd_pwrite", args: "iiilw", allowed: modernInit, fn: call.writeAt},
	{wasi: true, name: "fd_read", args: "iiiw", fn: errno(enosys)},
	{wasi: true, name: "fd_pread", args: "iiilw", allowed: modernInit, fn: errno(enosys)},
	{wasi: true, name: "fd_seek", args: "iliw", fn: errno(esuccess)},
	{wasi: true, name: "fd_close", args: "i", fn: errno(esuccess)},
	{wasi: true, name: "fd_fdstat_get", args: "iw", allowed: inInit, fn: call.fdstat},
	{wasi: true, name: "fd_fdstat_set_flags", args: "ii", allowed: inInit, fn: errno(enosys)},
	{wasi: true, name: "fd_fdstat_set_rights", args: "ill", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_prestat_get", args: "iw", allowed: inInit, fn: errno(ebadf)},
	{wasi: true, name: "fd_prestat_dir_name", args: "iii", allowed: inInit, fn: errno(enosys)},
	{wasi: true, name: "fd_filestat_get", args: "iw", allowed: modernInit, fn: errno(ebadf)},
	{wasi: true, name: "fd_filestat_set_size", args: "il", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_filestat_set_times", args: "illi", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_advise", args: "illi", allowed: modernInit, fn: errno(esuccess)},
	{wasi: true, name: "fd_allocate", args: "ill", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_datasync", args: "i", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_sync", args: "i", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_tell", args: "iw", allowed: modernInit, fn: call.tell},
	{wasi: true, name: "fd_readdir", args: "iiilw", allowed: modernInit, fn: errno(eexist)},
	{wasi: true, name: "fd_renumber", args: "ii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_open", args: "iiiiillii", fn: errno(enoent)},
	{wasi: true, name: "path_filestat_get", args: "iiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_filestat_set_times", args: "iiiilli", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_create_directory", args: "iii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_link", args: "iiiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_readlink", args: "iiiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_remove_directory", args: "iii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_rename", args: "iiiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_symlink", args: "iiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_unlink_file", args: "iii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "sock_accept", args: "iii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "sock_recv", args: "iiiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "sock_send", args: "iiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "sock_shutdown", args: "ii", allowed: modernInit, fn: errno(enotsup)},
}

// fault returns EFAULT unless a write to the memory of the module went well.
func fault(ok bool) Status {
	if !ok {
		return efault
	}
	return esuccess
}

// argsSizes is args_sizes_get. A module has no arguments.
func (c call) argsSizes() Status { return c.sizes(0, 0) }

// sizes returns the number of strings and their size in bytes at the addresses in parameters 0 and
// 1.
func (c call) sizes(n, size uint32) Status {
	return fault(c.in.mem.WriteUint32Le(c.u32(0), n) && c.in.mem.WriteUint32Le(c.u32(1), size))
}

// environSizes is environ_sizes_get: the sizes of what environ returns.
func (c call) environSizes() Status {
	size := 0
	for k, v := range c.in.vm.cfg.Env {
		size += len(k) + len("=") + len(v) + len("\x00")
	}
	return c.sizes(uint32(len(c.in.vm.cfg.Env)), uint32(size))
}

// environ is environ_get. Its parameters are 0 the address of an array, for the address of each
// variable, and 1 that of a buffer, for the variables as "name=value" with a terminating zero.
func (c call) environ() Status {
	const addressSize = 4
	array, buf := c.u32(0), c.u32(1)

	for _, k := range slices.Sorted(maps.Keys(c.in.vm.cfg.Env)) {
		s := k + "=" + c.in.vm.cfg.Env[k] + "\x00"
		if !c.in.mem.WriteUint32Le(array, buf) || !c.in.mem.WriteString(buf, s) {
			return efault
		}
		array, buf = array+addressSize, buf+uint32(len(s))
	}

	return esuccess
}

// The clocks that a module has, of those that WASI defines.
const (
	clockRealtime  = 0
	clockMonotonic = 1
)

// clock is clock_time_get. Its parameters are 0 the clock, 1 the precision, which is ignored, and 2
// where to return the time in nanoseconds.
func (c call) clock() Status {
	clock := c.in.vm.host.cfg.Clock
	var ns int64
	switch c.u32(0) {
	case clockRealtime:
		ns = clock.Wall().UnixNano()
	case clockMonotonic:
		ns = int64(clock.Mono())
	default:
		return enotsup
	}

	return fault(c.in.mem.WriteUint64Le(c.u32(2), uint64(ns)))
}

// clockResolution is clock_res_get: a nanosecond. Its parameters are 0 the clock and 1 where to
// return the resolution.
func (c call) clockResolution() Status {
	if c.u32(0) > clockMonotonic {
		return enotsup
	}
	return fault(c.in.mem.WriteUint64Le(c.u32(1), 1))
}

// maxRandom is the limit of proxy-wasm-cpp-host on the bytes of one random_get (limits.h).
const maxRandom = 64 << 10

// random is random_get. Its parameters are 0 the address and 1 the number of the bytes to fill.
func (c call) random() Status {
	if c.u32(1) > maxRandom {
		return einval
	}

	b, ok := c.in.mem.Read(c.u32(0), c.u32(1))
	if ok {
		rand.Read(b) // never fails
	}

	return fault(ok)
}

// poll is poll_oneoff, with which Go's runtime sleeps. Its parameter 3 is where to return the
// number of events: always 0, at once. Before proxy-wasm-cpp-host #533, Envoy did not implement it.
func (c call) poll() Status {
	if c.in.vm.host.cfg.LegacyWASI {
		return enosys
	}
	return fault(c.in.mem.WriteUint32Le(c.u32(3), 0))
}

// fdstat is fd_fdstat_get. Its parameters are 0 the file descriptor and 1 where to return its
// fdstat, a structure of 24 bytes. All of it is zero except the right to write.
func (c call) fdstat() Status {
	if stdio(c) != esuccess {
		return ebadf
	}

	const rightsOffset, rightToWrite = 8, 1 << 6 // fs_rights_base, fd_write
	var stat [24]byte
	stat[rightsOffset] = rightToWrite
	c.in.mem.Write(c.u32(1), stat[:])
	return esuccess
}

// tell is fd_tell. Its parameters are 0 the file descriptor and 1 where to return the position,
// which is always 0.
func (c call) tell() Status {
	if stdio(c) != esuccess {
		return ebadf
	}
	return fault(c.in.mem.WriteUint64Le(c.u32(1), 0))
}

// exit is proc_exit. It does nothing, and the module goes on: os.Exit has no effect in Envoy. If
// Go's runtime must end after a panic, it calls exit and then runs into an unreachable instruction.
func (c call) exit() Status {
	c.in.log(levelTrace, "proc_exit")
	return esuccess
}

// writeAt is fd_pwrite, which differs from fd_write in parameter 3: an offset, which is ignored.
func (c call) writeAt() Status {
	withoutOffset := []uint64{c.stack[0], c.stack[1], c.stack[2], c.stack[4]}
	return call{c.in, withoutOffset}.write()
}

// write is fd_write, which sends what the module prints to the log. Each call is one message. Its
// parameters are 0 the file descriptor, 1 the address and 2 the length of an array with the address
// and the size of each part of the text, and 3 where to return the number of bytes written.
func (c call) write() Status {
	level := slog.LevelInfo
	switch c.u32(0) {
	case standardOutput:
	case standardError:
		level = slog.LevelError
	default:
		return ebadf
	}

	var text []byte
	for i := range c.u32(2) {
		const iovSize = 8 // an address and a size of 4 bytes each
		iov, ok := c.in.mem.Read(c.u32(1)+iovSize*i, iovSize)
		if !ok {
			return efault
		}
		b, ok := c.in.mem.Read(binary.LittleEndian.Uint32(iov), binary.LittleEndian.Uint32(iov[4:]))
		if !ok {
			return efault
		}

		text = append(text, b...)
	}

	if len(text) > 0 {
		c.in.log(level, strings.TrimSuffix(string(text), "\n"))
	}

	return fault(c.in.mem.WriteUint32Le(c.u32(3), uint32(len(text))))
}
