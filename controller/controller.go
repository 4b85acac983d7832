// Package controller wires the parts of a Drydock controller together. The parts are in the
// packages below it: the store, the keeper of the state, and the handlers of two listeners. One
// listener is for the API, which people and scripts use. The other is for the proxies, which wait
// there for newer states and report which one they enforce.
//
// controller.go starts and stops the parts. firststart.go creates the tokens of a first start.
package controller

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/controller/web"
)

// Addresses on which a controller listens by default.
const (
	DefaultListen      = "127.0.0.1:7070" // the API
	DefaultProxyListen = "127.0.0.1:7071" // the sync of the proxies
)

// storeFile is the name of the store in the data directory.
const storeFile = "drydock.db"

// Options are the options of a controller. With the zero value, a controller listens on the default
// addresses and keeps its data in the working directory. The errors of [New] name the flags and
// environment variables by which drydock serve sets them.
type Options struct {
	// Data is the directory of the store and of generated tokens. It is created if it does not
	// exist.
	Data string
	// Listen and ProxyListen are host:port; port 0 takes a free one. An address that is not a
	// loopback address requires TLSCert and TLSKey, or InsecureHTTP.
	Listen, ProxyListen string
	TLSCert, TLSKey     string // PEM files, for both addresses; empty for plain HTTP
	InsecureHTTP        bool   // allows plain HTTP on any address

	// BootstrapToken becomes the first operator token of a new store, and is ignored later. If it
	// is empty, a random token is passed to ShowToken, or written to Data/bootstrap-token if
	// ShowToken is nil. An operator token lets its bearer do everything in the API.
	BootstrapToken string
	ShowToken      func(token string) error
	// SyncToken authenticates the proxies. If it is empty, it is read from Data/sync-token, which
	// the first start creates.
	SyncToken string

	Version string           // of the program
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: slog.Default
}

// Controller is a controller. It runs from [Controller.Start] to [Controller.Stop].
type Controller struct {
	log    *slog.Logger
	store  *store.Bolt
	keeper *keeper.Keeper

	stopping     context.Context // done as soon as Stop is called
	signalToStop context.CancelFunc
	running      sync.WaitGroup // the goroutines of Start
	failed       chan error     // has room for an error of each server, so that none blocks

	apiServer, proxyServer     *http.Server
	apiListener, proxyListener net.Listener
}

// New opens the store and listens on both addresses. Clients can connect from now on, and their
// requests are answered after Start. The caller must call Stop, even without Start. ctx is for New
// alone.
func New(ctx context.Context, o Options) (*Controller, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Listen = cmp.Or(o.Listen, DefaultListen)
	o.ProxyListen = cmp.Or(o.ProxyListen, DefaultProxyListen)

	tlsConfig, err := o.loadTLS()
	if err != nil {
		return nil, err
	}

	// If Data is empty, Clean makes it ".", the working directory.
	if err := os.MkdirAll(filepath.Clean(o.Data), 0o700); err != nil {
		return nil, fmt.Errorf("creating the data directory: %w", err)
	}

	c := &Controller{log: cmp.Or(o.Log, slog.Default()), failed: make(chan error, 2)}
	c.stopping, c.signalToStop = context.WithCancel(context.Background())
	if err := c.open(ctx, o, tlsConfig); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// loadTLS returns the TLS configuration of both listeners, or nil for plain HTTP. It returns an
// error for a plain HTTP address that other machines can reach, unless InsecureHTTP is set.
func (o *Options) loadTLS() (*tls.Config, error) {
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key must be given together")
	}
	if o.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate: %w", err)
		}
		return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}, nil
	}

	for flag, address := range map[string]string{"--listen": o.Listen, "--proxy-listen": o.ProxyListen} {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("%s %q must be host:port: %w", flag, address, err)
		}

		// Without a host, as in :7070, or with a name, as in example.com:7070, err is not nil.
		ip, err := netip.ParseAddr(host)
		isLoopback := host == "localhost" || err == nil && ip.Unmap().IsLoopback()
		if !isLoopback && !o.InsecureHTTP {
			return nil, fmt.Errorf("%s %s is reachable from other machines, and tokens would be sent unencrypted: set --tls-cert and --tls-key, or set --insecure-http if the network is protected by other means", flag, address)
		}
	}
	return nil, nil
}

// open opens what the controller needs. After an error, the caller closes what was opened.
func (c *Controller) open(ctx context.Context, o Options, tlsConfig *tls.Config) (err error) {
	if c.store, err = store.OpenBolt(filepath.Join(o.Data, storeFile), o.Now()); err != nil {
		return err
	}
	if c.keeper, err = keeper.Open(ctx, keeper.Options{Store: c.store, Now: o.Now, Log: c.log}); err != nil {
		return err
	}

	if c.apiListener, err = net.Listen("tcp", o.Listen); err != nil {
		return fmt.Errorf("listening for the API: %w", err)
	}
	if c.proxyListener, err = net.Listen("tcp", o.ProxyListen); err != nil {
		return fmt.Errorf("listening for proxies: %w", err)
	}
	if tlsConfig != nil {
		c.apiListener = tls.NewListener(c.apiListener, tlsConfig)
		c.proxyListener = tls.NewListener(c.proxyListener, tlsConfig)
	}

	if err := c.bootstrap(ctx, o); err != nil {
		return err
	}
	syncToken, err := c.syncToken(o)
	if err != nil {
		return err
	}

	options := web.Options{Keeper: c.keeper, SyncToken: syncToken, Stopping: c.stopping, Now: o.Now, Log: c.log, Version: o.Version}
	c.apiServer = web.NewServer(web.API(options), c.log)
	c.proxyServer = web.NewServer(web.Proxy(options), c.log)
	return nil
}

// Start answers requests and runs the schedule, which opens and closes maintenance windows, in
// goroutines of their own. It returns at once.
func (c *Controller) Start() {
	c.running.Go(func() { c.keeper.Run(c.stopping) })
	c.serve(c.apiServer, c.apiListener, "the API")
	c.serve(c.proxyServer, c.proxyListener, "proxies")

	v := c.keeper.Current().Version()
	c.log.Info("controller started", "listen", c.Addr(), "proxy_listen", c.ProxyAddr(), "epoch", v.Epoch, "revision", v.Revision)
}

// serve answers the requests of a listener until the server is shut down. clients names the
// listener in errors.
func (c *Controller) serve(s *http.Server, l net.Listener, clients string) {
	c.running.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			c.failed <- fmt.Errorf("serving %s: %w", clients, err)
		}
	})
}

// Failed returns a channel that receives an error if a listener fails. The caller should then stop
// the controller.
func (c *Controller) Failed() <-chan error { return c.failed }

// Addr returns the address of the API, as host:port.
func (c *Controller) Addr() string { return c.apiListener.Addr().String() }

// ProxyAddr returns the address of the listener for proxies, as host:port.
func (c *Controller) ProxyAddr() string { return c.proxyListener.Addr().String() }

// Stop stops the controller and closes the store. Requests that wait for a change of the state are
// answered at once, as when their time is over. The others may finish until ctx is done, and are
// then cut off.
func (c *Controller) Stop(ctx context.Context) {
	c.signalToStop()
	for _, s := range []*http.Server{c.proxyServer, c.apiServer} {
		if s.Shutdown(ctx) != nil { // ctx is done, and requests are still running
			s.Close()
		}
	}
	c.running.Wait()

	c.close()
	c.log.Info("controller stopped")
}

// close closes what was opened, which may be a part of everything if New failed.
func (c *Controller) close() {
	c.signalToStop()
	for _, l := range []net.Listener{c.apiListener, c.proxyListener} {
		if l != nil {
			l.Close()
		}
	}
	if c.store != nil {
		c.store.Close()
	}
}
