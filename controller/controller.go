// Package controller wires the parts of a Drydock controller together: the store, the keeper of the
// state, the API and the sync of the proxies. The parts are in the packages below it. This file
// starts and stops them; the tokens that a first start creates are in firststart.go.
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

// Options of a controller. With the zero value it listens on the default addresses and keeps its
// data in the working directory.
type Options struct {
	// Data is the directory of the store and of generated tokens. It is created if it does not
	// exist.
	Data string
	// Listen and ProxyListen are host:port; port 0 takes a free one. An address that is not a
	// loopback address requires TLSCert and TLSKey, or InsecureHTTP.
	Listen, ProxyListen string
	TLSCert, TLSKey     string // PEM files, for both addresses
	InsecureHTTP        bool

	// BootstrapToken becomes the first operator token of a new store. If it is empty, a random
	// token is passed to ShowToken, or written to Data/bootstrap-token if ShowToken is nil.
	BootstrapToken string
	ShowToken      func(token string) error
	// SyncToken authenticates the proxies. If it is empty, it is read from Data/sync-token, which
	// the first start creates.
	SyncToken string

	Version string
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: slog.Default
}

// Controller is a running controller.
type Controller struct {
	log    *slog.Logger
	store  *store.Bolt
	keeper *keeper.Keeper

	stopping context.Context // done as soon as Stop is called
	stop     context.CancelFunc
	running  sync.WaitGroup // the goroutines of Start
	failed   chan error

	api, proxy                 *http.Server
	apiListener, proxyListener net.Listener
}

// New opens the store and listens on both addresses. Requests are answered after Start.
func New(ctx context.Context, o Options) (*Controller, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Listen = cmp.Or(o.Listen, DefaultListen)
	o.ProxyListen = cmp.Or(o.ProxyListen, DefaultProxyListen)

	tlsConfig, err := o.tls()
	if err != nil {
		return nil, err
	}

	if err := os.MkdirAll(filepath.Clean(o.Data), 0o700); err != nil {
		return nil, fmt.Errorf("creating the data directory: %w", err)
	}

	c := &Controller{log: cmp.Or(o.Log, slog.Default()), failed: make(chan error, 2)}
	c.stopping, c.stop = context.WithCancel(context.Background())
	if err := c.open(ctx, o, tlsConfig); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// tls returns the TLS configuration of both listeners, or nil for plain HTTP. It returns an error
// for a plain HTTP address that other machines can reach, unless InsecureHTTP is set.
func (o *Options) tls() (*tls.Config, error) {
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

		ip, err := netip.ParseAddr(host)
		if loopback := host == "localhost" || err == nil && ip.Unmap().IsLoopback(); !loopback && !o.InsecureHTTP {
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

	handlers := web.Options{Keeper: c.keeper, SyncToken: syncToken, Stopping: c.stopping, Now: o.Now, Log: c.log, Version: o.Version}
	c.api, c.proxy = web.NewServer(web.API(handlers), c.log), web.NewServer(web.Proxy(handlers), c.log)
	return nil
}

// Start answers requests and runs the schedule until Stop.
func (c *Controller) Start() {
	c.running.Go(func() { c.keeper.Run(c.stopping) })
	c.serve(c.api, c.apiListener, "the API")
	c.serve(c.proxy, c.proxyListener, "proxies")

	v := c.keeper.Current().Version()
	c.log.Info("controller started", "listen", c.Addr(), "proxy_listen", c.ProxyAddr(), "epoch", v.Epoch, "revision", v.Revision)
}

func (c *Controller) serve(s *http.Server, l net.Listener, what string) {
	c.running.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			c.failed <- fmt.Errorf("serving %s: %w", what, err)
		}
	})
}

// Failed returns a channel that receives an error if a listener fails. The controller should then
// be stopped.
func (c *Controller) Failed() <-chan error { return c.failed }

// Addr returns the address of the API.
func (c *Controller) Addr() string { return c.apiListener.Addr().String() }

// ProxyAddr returns the address of the sync of the proxies.
func (c *Controller) ProxyAddr() string { return c.proxyListener.Addr().String() }

// Stop answers the requests that wait, lets the others finish until ctx is done, and closes the
// store.
func (c *Controller) Stop(ctx context.Context) {
	c.stop()
	for _, s := range []*http.Server{c.proxy, c.api} {
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	}
	c.running.Wait()

	c.close()
	c.log.Info("controller stopped")
}

func (c *Controller) close() {
	c.stop()
	for _, l := range []net.Listener{c.apiListener, c.proxyListener} {
		if l != nil {
			l.Close()
		}
	}
	if c.store != nil {
		c.store.Close()
	}
}
