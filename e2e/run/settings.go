package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/drydock-proxy/drydock/e2e"
)

// settings say where the programs of a run listen and keep their data. Each comes from an
// environment variable, and all ports are on loopback.
type settings struct {
	proxyPort      int // PROXY_PORT: where Envoy takes requests; 8080 unless set
	controllerPort int // CONTROLLER_PORT: of the API; 7070 unless set
	syncPort       int // SYNC_PORT: of the controller's listener for proxies; controllerPort+1 unless set
	appPort        int // APP_PORT: of the demo app; 8081 unless set

	upstream string // UPSTREAM: host:port of a service to use instead of the demo app; empty unless set
	data     string // DATA: the data directory, as an absolute path; .data in the repository unless set
}

// readSettings reads the environment. An error names the variable that is wrong.
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

// readPort returns the port in an environment variable, or ifUnset if the variable is unset or
// empty.
func readPort(variable string, ifUnset int) (int, error) {
	text := os.Getenv(variable)
	if text == "" {
		return ifUnset, nil
	}
	if !isPort(text) {
		return 0, fmt.Errorf("%s must be a port from 1 to 65535, not %q", variable, text)
	}
	return strconv.Atoi(text)
}

// isPort reports whether text is the number of a port, and not 0, which stands for any free one.
func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 1 && n <= 65535
}

// checkPorts returns an error if a port cannot be used. Without it, two Envoys of one user would
// share a port without an error, and each would get half of the requests: Envoy listens with
// SO_REUSEPORT.
func (s settings) checkPorts() error {
	type setting struct {
		variable string
		port     int
	}
	ports := []setting{{"PROXY_PORT", s.proxyPort}, {"CONTROLLER_PORT", s.controllerPort}, {"SYNC_PORT", s.syncPort}}
	if s.upstream == "" { // the demo app runs
		ports = append(ports, setting{"APP_PORT", s.appPort})
	}

	variableOf := map[int]string{} // by port
	for _, p := range ports {
		if other := variableOf[p.port]; other != "" {
			return fmt.Errorf("%s and %s are both %d: give one of them another port", other, p.variable, p.port)
		}
		variableOf[p.port] = p.variable

		l, err := net.Listen("tcp", loopback(p.port))
		if err != nil {
			another := (p.port + 100) % 65536
			return fmt.Errorf("port %d cannot be used (%w): choose another one with %s, such as %s=%d make run",
				p.port, err, p.variable, p.variable, another)
		}
		l.Close()
	}

	return nil
}

// logs returns the path of the folder for the logs of a run.
func (s settings) logs() string { return filepath.Join(s.data, "log") }

// loopback returns the address 127.0.0.1:port.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
