package e2e

import (
	"net"
	"net/http"
	"testing"
)

// A Port (ports.go) reserves a port for a server that this process starts later. The kernel does
// not give a reserved port to a socket that asks for any port, and a server can listen on the port,
// also again after it has stopped.
func TestReservedPortsStayFree(t *testing.T) {
	p := reservePort(t)
	for range 200 { // which stay open, so that the kernel must choose another port each time
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		if l.Addr().String() == p.Addr() {
			t.Fatal("a listener that asked for any port got the reserved one")
		}
		defer l.Close()
	}

	for range 2 { // the server starts twice
		l, err := net.Listen("tcp", p.Addr())
		must(t, err)
		go http.Serve(l, http.NotFoundHandler())
		resp, err := http.Get("http://" + p.Addr())
		must(t, err)
		resp.Body.Close()
		l.Close()
	}
}
