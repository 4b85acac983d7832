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
// Listening on :0 and closing again would leave a gap in which another process, or just an outgoing
// connection, can take the port. Here a socket that never listens stays bound to the port. The
// kernel does not give a bound port to a socket that asks for any port, but a server may bind it as
// well if its socket has SO_REUSEADDR (Go's listeners) or SO_REUSEPORT (Envoy's), as this one has.
type Port struct {
	Number int
	fd     int
}

// ReservePort reserves a free port on 127.0.0.1.
func ReservePort() (*Port, error) {
	syscall.ForkLock.RLock() // no child may inherit the socket
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

// bindAny binds a socket to a free port on 127.0.0.1 and returns the port.
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

// Addr returns the port as 127.0.0.1:port.
func (p *Port) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Number)) }

// Release gives the port back.
func (p *Port) Release() { unix.Close(p.fd) }
