package e2e

import (
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Port is a free loopback port that stays this process's own until it is released, also
// between two starts of the server that listens on it.
//
// The usual trick, listening on :0 and closing again, leaves a gap in which another
// process, or just an outgoing connection, takes the port. Here a socket stays bound to
// it that never listens: the kernel gives a bound port to nobody who asks for any, but
// lets a server bind it beside a socket that also has SO_REUSEADDR (Go's listeners) or
// SO_REUSEPORT (Envoy's).
type Port struct {
	Number int
	fd     int
}

// ReservePort picks a free port on 127.0.0.1.
func ReservePort() (*Port, error) {
	syscall.ForkLock.RLock() // no child may inherit it
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("reserving a port: %w", err)
	}
	port, err := bindAny(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("reserving a port: %w", err)
	}
	return &Port{port, fd}, nil
}

func bindAny(fd int) (port int, err error) {
	for _, opt := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 1); err != nil {
			return 0, err
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return addr.(*unix.SockaddrInet4).Port, nil
}

// Addr is 127.0.0.1 with the port.
func (p *Port) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Number)) }

// Release gives the port back.
func (p *Port) Release() { unix.Close(p.fd) }
