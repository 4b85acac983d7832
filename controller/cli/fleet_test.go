package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A fleet is a group of simulated proxies for the scripts in testdata. In place of Envoy with the
// filter, each proxy is a goroutine that follows the state of the controller by long polls (sync),
// and another one that reports once a second which version it enforces (ack). The controller sees
// them as proxies with one WebAssembly VM.
type fleet struct {
	url     string         // of the controller's listener for proxies
	running sync.WaitGroup // the goroutines of all proxies
	proxies map[string]*proxy
}

type proxy struct {
	name, url string
	client    http.Client
	// A proxy is simulated in three conditions: running; cut off, where its messages are lost on
	// the way although its connection stays open; and stopped, where its connections are closed.
	// cutOff and stopped are done from the moment when cut and stop are called. A stopped proxy
	// counts as cut off too.
	stopped, cutOff context.Context
	stop, cut       context.CancelFunc

	mu       sync.Mutex          // held during an ack too, so that acks arrive in order
	enforced maintenance.Version // which the proxy reports; zero before the first state
}

// join starts a proxy, and returns after its first report.
func (f *fleet) join(name string) error {
	p := &proxy{name: name, url: f.url}
	p.stopped, p.stop = context.WithCancel(context.Background())
	p.cutOff, p.cut = context.WithCancel(p.stopped)
	f.proxies[name] = p

	const atOnce = 0 // the controller has a state that is newer than none
	if err := p.follow(atOnce); err != nil {
		return err
	}
	f.running.Go(p.keepFollowing)
	f.running.Go(p.keepReporting)
	return nil
}

// leaveAll stops all proxies, and waits for their goroutines.
func (f *fleet) leaveAll() {
	for _, p := range f.proxies {
		p.stop()
	}
	f.running.Wait()
}

func (p *proxy) keepFollowing() {
	for p.stopped.Err() == nil {
		if p.follow(maintenance.SyncWait) != nil {
			time.Sleep(10 * time.Millisecond) // keep errors from making a busy loop
		}
	}
}

func (p *proxy) keepReporting() {
	heartbeat := time.NewTicker(maintenance.HeartbeatSeconds * time.Second)
	defer heartbeat.Stop()
	for {
		select {
		case <-p.cutOff.Done():
			return
		case <-heartbeat.C:
			p.ack()
		}
	}
}

// follow polls once: it waits at most wait seconds for a newer state than the proxy enforces, and
// reports it as enforced. Without a newer state, it returns nil.
func (p *proxy) follow(wait int) error {
	p.mu.Lock()
	req := maintenance.SyncRequest{Version: p.enforced, Proxy: p.name, Wait: wait}
	p.mu.Unlock()

	document, err := p.post(maintenance.SyncPath, req)
	if p.cutOff.Err() != nil {
		// The answer is lost. To the controller, the connection is open until the proxy stops.
		<-p.stopped.Done()
		return p.stopped.Err()
	}
	if err != nil || len(document) == 0 { // the answer 204 has no document
		return err
	}

	s, err := maintenance.Parse(document)
	if err != nil {
		return err
	}

	p.mu.Lock()
	p.enforced = s.Version()
	p.mu.Unlock()
	return p.ack()
}

// ack reports which version the proxy enforces.
func (p *proxy) ack() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	_, err := p.post(maintenance.AckPath, maintenance.Ack{
		Version: p.enforced, Proxy: p.name, VM: "1", Node: "node-of-" + p.name,
		Time: time.Now().UnixMilli(),
	})
	return err
}

// post sends a message to the controller as JSON, and returns the body of the answer, whatever its
// status is.
func (p *proxy) post(path string, message any) ([]byte, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}

	req, err := http.NewRequestWithContext(p.stopped, http.MethodPost, p.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+syncToken)

	res, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}
