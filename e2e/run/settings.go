package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/drydock-proxy/drydock/e2e"
)

// settings come from the environment variables PROXY_PORT, CONTROLLER_PORT, SYNC_PORT, APP_PORT,
// UPSTREAM and DATA.
type settings struct {
	proxyPort      int // Envoy's; 8080 unless set
	controllerPort int // of the API; 7070 unless set
	syncPort       int // of the controller's listener for proxies; controllerPort + 1 unless set
	appPort        int // of the demo app; 8081 unless set

	upstream string // host:port of a service to use instead of the demo app
	data     string // absolute path of the data directory; .data in the repository unless set
}

func readSettings() (s settings, err error) {
	if s.proxyPort, err = readPort("PROXY_PORT", 8080); err != nil {
		return s, err
	}
	if s.controllerPort, err = readPort("CONTROLLER_PORT", 7070); err != nil {
		return s, err
	}
	if s.syncPort, err = readPort("SYNC_PORT", s.controllerPort+1); err != nil {
		return s, err
	}
	if s.appPort, err = readPort("APP_PORT", 8081); err != nil {
		return s, err
	}

	if s.upstream = os.Getenv("UPSTREAM"); s.upstream != "" {
		host, port, err := net.SplitHostPort(s.upstream)
		if err != nil || host == "" || !isPort(port) {
			return s, fmt.Errorf("UPSTREAM must be host:port, such as localhost:3000, not %q", s.upstream)
		}
	}

	root, err := e2e.Root()
	if err != nil {
		return s, err
	}
	s.data = os.Getenv("DATA")
	if s.data == "" {
		s.data = filepath.Join(root, ".data")
	}
	s.data, err = filepath.Abs(s.data)
	return s, err
}

func readPort(variable string, unset int) (int, error) {
	text := os.Getenv(variable)
	if text == "" {
		return unset, nil
	}
	if !isPort(text) {
		return 0, fmt.Errorf("%s must be a port from 1 to 65535, not %q", variable, text)
	}
	return strconv.Atoi(text)
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 1 && n <= 65535
}

// checkPorts returns an error if a port cannot be used, before anything starts. It matters most for
// Envoy's port: two Envoys of one user share a port without an error, and each gets half of the
// requests.
func (s settings) checkPorts() error {
	ports := []struct {
		variable string
		port     int
	}{{"PROXY_PORT", s.proxyPort}, {"CONTROLLER_PORT", s.controllerPort}, {"SYNC_PORT", s.syncPort}, {"APP_PORT", s.appPort}}
	if s.upstream != "" {
		ports = ports[:3]
	}

	used := map[int]string{}
	for _, p := range ports {
		if other := used[p.port]; other != "" {
			return fmt.Errorf("%s and %s are both %d: give one of them another port", other, p.variable, p.port)
		}
		used[p.port] = p.variable

		l, err := net.Listen("tcp", loopback(p.port))
		if err != nil {
			return fmt.Errorf("port %d cannot be used (%w): choose another one with %s, such as %s=%d make run",
				p.port, err, p.variable, p.variable, (p.port+100)%65536)
		}
		l.Close()
	}

	return nil
}

// logs returns the folder of this run's logs.
func (s settings) logs() string { return filepath.Join(s.data, "log") }

// loopback returns a port as 127.0.0.1:port.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
