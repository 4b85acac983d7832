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

// A fleet is a group of proxies that poll and ack as the filter does, each with one VM.
type fleet struct {
	url     string
	running sync.WaitGroup
	proxies map[string]*proxy
}

type proxy struct {
	name, url string
	client    http.Client
	// stopped is done when the proxy has ended, and cutOff when its messages are lost on the way.
	stopped, cutOff context.Context
	stop, cut       context.CancelFunc

	mu  sync.Mutex
	has maintenance.Version
}

// join starts a proxy, and returns after its first report.
func (f *fleet) join(name string) error {
	p := &proxy{name: name, url: f.url}
	p.stopped, p.stop = context.WithCancel(context.Background())
	p.cutOff, p.cut = context.WithCancel(p.stopped)
	f.proxies[name] = p

	if err := p.follow(0); err != nil {
		return err
	}
	f.running.Go(p.keepFollowing)
	f.running.Go(p.keepReporting)
	return nil
}

func (f *fleet) leaveAll() {
	for _, p := range f.proxies {
		p.stop()
	}
	f.running.Wait()
}

func (p *proxy) keepFollowing() {
	for p.stopped.Err() == nil {
		if p.follow(maintenance.SyncWait) != nil {
			time.Sleep(10 * time.Millisecond)
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

// follow waits for a newer state and reports that it is enforced.
func (p *proxy) follow(wait int) error {
	p.mu.Lock()
	req := maintenance.SyncRequest{Version: p.has, Proxy: p.name, Wait: wait}
	p.mu.Unlock()

	document, err := p.post(maintenance.SyncPath, req)
	if p.cutOff.Err() != nil {
		// The answer is lost, but the connection stays open.
		<-p.stopped.Done()
		return p.stopped.Err()
	}
	if err != nil || len(document) == 0 {
		return err
	}

	s, err := maintenance.Parse(document)
	if err != nil {
		return err
	}

	p.mu.Lock()
	p.has = s.Version()
	p.mu.Unlock()
	return p.ack()
}

func (p *proxy) ack() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.post(maintenance.AckPath, maintenance.Ack{Version: p.has, Proxy: p.name, VM: "1", Node: "node-of-" + p.name, Time: time.Now().UnixMilli()})
	return err
}

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
