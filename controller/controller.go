// Package controller wires the parts of a Drydock controller together: the store, the
// keeper of the state, and the two listeners.
package controller

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/controller/web"
)

// DefaultListen and DefaultProxyListen are where a controller listens if not told otherwise.
const (
	DefaultListen      = "127.0.0.1:7070"
	DefaultProxyListen = "127.0.0.1:7071"
)

// Options of a controller. The zero value is one on the default addresses that keeps
// its data in the working directory.
type Options struct {
	// Data is the folder of the store and of generated tokens. It is made if missing.
	Data string
	// Listen and ProxyListen are host:port; port 0 takes a free one. An address beyond
	// loopback needs TLSCert and TLSKey, or InsecureHTTP.
	Listen, ProxyListen string
	TLSCert, TLSKey     string // PEM files, for both listeners
	InsecureHTTP        bool

	// BootstrapToken is the first operator token of a new store. Without one, a random
	// token is given to ShowToken, or written to Data/bootstrap-token when that is nil.
	BootstrapToken string
	ShowToken      func(token string) error
	// SyncToken is what proxies prove themselves with. Empty: the one in Data/sync-token,
	// which is made at the first start.
	SyncToken string

	Version string
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: slog.Default
}

// Controller is a running controller.
type Controller struct {
	log     *slog.Logger
	store   *store.Bolt
	keeper  *keeper.Keeper
	life    context.Context // of waiting requests and the schedule
	stop    context.CancelFunc
	running sync.WaitGroup
	failed  chan error

	api, proxy               *http.Server
	apiListener, proxyListen net.Listener
}

const (
	bootstrapTokenFile = "bootstrap-token"
	syncTokenFile      = "sync-token"
	storeFile          = "drydock.db"
	// shortToken is how many characters a token that somebody made up should have.
	shortToken = 16
)

// New opens the store and binds both addresses. Nothing is served before Start.
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
	c.life, c.stop = context.WithCancel(context.Background())
	if err := c.open(ctx, o, tlsConfig); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

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
	if c.proxyListen, err = net.Listen("tcp", o.ProxyListen); err != nil {
		return fmt.Errorf("listening for proxies: %w", err)
	}
	if err := c.bootstrap(ctx, o); err != nil {
		return err
	}
	syncToken, err := c.syncToken(o)
	if err != nil {
		return err
	}
	if tlsConfig != nil {
		c.apiListener = tls.NewListener(c.apiListener, tlsConfig)
		c.proxyListen = tls.NewListener(c.proxyListen, tlsConfig)
	}
	handlers := web.Options{Keeper: c.keeper, SyncToken: syncToken, Stopping: c.life, Now: o.Now, Log: c.log, Version: o.Version}
	c.api, c.proxy = web.NewServer(web.API(handlers), c.log), web.NewServer(web.Proxy(handlers), c.log)
	return nil
}

// tls checks the addresses, and loads the certificate once.
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

// bootstrap makes the first operator token of a new store. Whoever gets it has it
// before it is good: after a crash in between the next start makes another one.
func (c *Controller) bootstrap(ctx context.Context, o Options) error {
	if c.keeper.HasTokens() {
		if o.BootstrapToken != "" {
			if _, known := c.keeper.Authenticate(o.BootstrapToken); !known {
				c.log.Warn("DRYDOCK_BOOTSTRAP_TOKEN is ignored, since this store already has tokens and it is not one of them; create tokens with drydock token create")
			}
		}
		return nil
	}
	token := o.BootstrapToken
	switch {
	case token != "":
		if len(token) < shortToken {
			c.log.Warn("DRYDOCK_BOOTSTRAP_TOKEN is short and easy to guess", "characters", len(token), "at_least", shortToken)
		}
	case o.ShowToken != nil:
		token = keeper.NewSecret()
		if err := o.ShowToken(token); err != nil {
			return fmt.Errorf("showing the first operator token: %w", err)
		}
	default:
		token = keeper.NewSecret()
		path := filepath.Join(o.Data, bootstrapTokenFile)
		if err := writeSecret(path, token); err != nil {
			return fmt.Errorf("writing the first operator token: %w", err)
		}
		c.log.Info("the first operator token was written to a file; read it, then delete the file", "path", path)
	}
	_, err := c.keeper.CreateToken(ctx, keeper.Actor{Name: "bootstrap"}, "bootstrap", keeper.Operator, token)
	return err
}

// syncToken is the given one, or the one of the data directory.
func (c *Controller) syncToken(o Options) (string, error) {
	if o.SyncToken != "" {
		return o.SyncToken, nil
	}
	path := filepath.Join(o.Data, syncTokenFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		token := keeper.NewSecret()
		if err := writeSecret(path, token); err != nil {
			return "", fmt.Errorf("writing the sync token: %w", err)
		}
		c.log.Info("the sync token was written to a file; set DRYDOCK_SYNC_TOKEN in the environment of Envoy to it", "path", path)
		return token, nil
	case err != nil:
		return "", fmt.Errorf("reading the sync token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("the sync token file %s is empty: delete it, and the next start creates a new token", path)
	}
	return token, nil
}

// writeSecret writes a file that nobody else may read, whole or not at all.
func writeSecret(path, secret string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(secret + "\n")
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Start serves until Stop.
func (c *Controller) Start() {
	c.running.Go(func() { c.keeper.Run(c.life) })
	serve := func(s *http.Server, l net.Listener, what string) {
		c.running.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				c.failed <- fmt.Errorf("serving %s: %w", what, err)
			}
		})
	}
	serve(c.api, c.apiListener, "the API")
	serve(c.proxy, c.proxyListen, "proxies")
	v := c.keeper.Current().Version()
	c.log.Info("controller started", "listen", c.Addr(), "proxy_listen", c.ProxyAddr(), "epoch", v.Epoch, "revision", v.Revision)
}

// Failed tells when a listener has failed; the controller is of no use then.
func (c *Controller) Failed() <-chan error { return c.failed }

// Addr and ProxyAddr are where it listens.
func (c *Controller) Addr() string      { return c.apiListener.Addr().String() }
func (c *Controller) ProxyAddr() string { return c.proxyListen.Addr().String() }

// Stop answers who waits, lets the rest finish until ctx is done, and closes the store.
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
	for _, l := range []net.Listener{c.apiListener, c.proxyListen} {
		if l != nil {
			l.Close()
		}
	}
	if c.store != nil {
		c.store.Close()
	}
}
