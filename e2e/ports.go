package e2e

import (
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Port is a loopback port that stays reserved for this process and its children until it is
// released, also while a server that listens on it restarts.
//
// A listener on port 0 that is closed again would find a free port too, but another process, or
// just an outgoing connection, could take the port before the server does. Instead, a Port has a
// socket that is bound to the port and never listens. The kernel does not give a bound port to a
// socket that asks for any port. A server that names the port can still bind it, because this
// socket and the server's both have SO_REUSEADDR (which Go sets for listeners) or both have
// SO_REUSEPORT (which Envoy sets).
type Port struct {
	Number int
	fd     int // the bound socket
}

// ReservePort reserves a free port on 127.0.0.1.
func ReservePort() (*Port, error) {
	// No child may inherit the socket, and a child could be forked between the two calls.
	syscall.ForkLock.RLock()
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

// bindAny binds a socket to a port on 127.0.0.1 that the kernel chooses, and returns the port.
func bindAny(fd int) (port int, err error) {
	for _, opt := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 1); err != nil {
			return 0, err
		}
	}

	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}} // and Port 0: any
	if err := unix.Bind(fd, loopback); err != nil {
		return 0, err
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return addr.(*unix.SockaddrInet4).Port, nil
}

// Addr returns the port with its host, as in "127.0.0.1:40123".
func (p *Port) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Number)) }

// Release gives the port back to the kernel. A server that listens on it is not affected.
func (p *Port) Release() { unix.Close(p.fd) }
