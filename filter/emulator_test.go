//go:build !wasm

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/proxytest"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Tests that run natively use the emulator of the proxy-wasm Go SDK (package proxytest): it calls
// the filter as ordinary Go code, with one VM, one plugin and host calls in memory. This file makes
// it a rig, with requests as exchanges (both are interfaces of rig_test.go). Two weaknesses of the
// emulator need care: it gives callouts numbers that are not unique (withUniqueIDs), and it
// delivers parts of a request that Envoy would keep (emulatorExchange.queued).

// emulatorRig is the one plugin in the emulator.
type emulatorRig struct {
	t    *testing.T
	host proxytest.HostEmulator

	// The emulator lists all callouts that were ever made. The first seenCallouts of them are known
	// to the rig: they are in waiting until they are answered.
	seenCallouts int
	waiting      []call
	// usedIDs are the numbers of the callouts that wait for an answer, and of fillers.
	usedIDs map[uint32]bool

	streams []*emulatorExchange // those that are open
}

// newEmulatorRig starts the plugin. If the plugin does not start, the error is what it logged. The
// emulator ignores all of the setup but the plugin configuration.
func newEmulatorRig(t *testing.T, s setup) (*emulatorRig, error) {
	opt := proxytest.NewEmulatorOption().WithVMContext(&vm{}).WithPluginConfiguration([]byte(s.config)).
		WithProperty([]string{"node", "id"}, []byte("gateway-7"))
	host, reset := proxytest.NewHostEmulator(opt)

	t.Cleanup(reset)
	e := &emulatorRig{t: t, host: host, usedIDs: make(map[uint32]bool)}

	if host.StartVM() != types.OnVMStartStatusOK || host.StartPlugin() != types.OnPluginStartStatusOK {
		return e, errors.New(strings.Join(host.GetCriticalLogs(), "\n"))
	}
	return e, nil
}

// advance sleeps. In a synctest bubble, where native tests run, that moves the clock at once.
func (e *emulatorRig) advance(d time.Duration) { time.Sleep(d) }

func (e *emulatorRig) tick() {
	isPoll := func(c call) bool { return c.path() == maintenance.SyncPath }
	if slices.ContainsFunc(e.waiting, isPoll) {
		// This tick makes no other poll, but at most an ack, which is answered at once, and a page
		// request. If their numbers are not unique, pendingCalls fails the test.
		e.host.Tick()
	} else {
		e.withUniqueIDs(e.host.Tick)
	}
	e.pendingCalls()
}

// withUniqueIDs calls do, which may make callouts that wait for long.
//
// The emulator numbers a callout by how many callouts wait at that moment. So two callouts get the
// same number if one before them has been answered meanwhile. withUniqueIDs prevents this by making
// fillers, which are callouts that only raise the numbers, before it calls do, and by answering
// them afterwards. The numbers of what do calls are then higher than those that occur without
// fillers, and lower than those of a callout that still waits from an earlier call of
// withUniqueIDs.
func (e *emulatorRig) withUniqueIDs(do func()) {
	const (
		firstHighID = 100 // more callouts than this never wait at once
		room        = 4   // for the callouts of do
	)
	waitingIDs := uint32(len(e.usedIDs))
	high := uint32(firstHighID)
	for _, c := range e.waiting {
		if c.id >= waitingIDs {
			high = min(high, c.id)
		}
	}

	var fillers []uint32
	for uint32(len(e.usedIDs))+room < high {
		proxywasm.SetEffectiveContext(proxytest.PluginContextID)
		id, err := proxywasm.DispatchHttpCall(fillerCluster, nil, nil, nil, 0, func(int, int, int) {})
		if err != nil {
			e.t.Fatal(err)
		}
		e.usedIDs[id] = true
		fillers = append(fillers, id)
	}

	do()
	e.pendingCalls()
	for _, id := range fillers {
		e.host.CallOnHttpCallResponse(id, nil, nil, nil)
		delete(e.usedIDs, id)
	}
}

// fillerCluster marks a callout as a filler of withUniqueIDs.
const fillerCluster = "filler"

// pendingCalls also notices the callouts that were made since it was last called.
func (e *emulatorRig) pendingCalls() []call {
	all := e.host.GetCalloutAttributesFromContext(proxytest.PluginContextID)
	for _, c := range all[e.seenCallouts:] {
		if c.Upstream == fillerCluster {
			continue
		}
		if slices.ContainsFunc(e.waiting, func(o call) bool { return o.id == c.CalloutID }) {
			e.t.Fatalf("the emulator gave two callouts the number %d", c.CalloutID)
		}

		e.usedIDs[c.CalloutID] = true
		e.waiting = append(e.waiting, call{id: c.CalloutID, headers: fields(c.Headers), body: string(c.Body)})
	}

	e.seenCallouts = len(all)
	return slices.Clone(e.waiting)
}

func (e *emulatorRig) answer(c call, status int, body string) {
	var headers [][2]string
	if status != 0 {
		headers = [][2]string{{":status", fmt.Sprint(status)}}
	}

	respond := func() {
		e.waiting = slices.DeleteFunc(e.waiting, func(o call) bool { return o.id == c.id })
		e.host.CallOnHttpCallResponse(c.id, headers, nil, []byte(body))
		e.pendingCalls()
		delete(e.usedIDs, c.id)
	}

	if c.path() == maintenance.AckPath {
		respond() // The filter makes no callout when an ack is answered.
	} else {
		e.withUniqueIDs(respond)
	}
}

// open begins a request. The emulator has one place for the properties of all requests, so open
// sets the source address of this one and clears the decision of the last one.
func (e *emulatorRig) open(headers [][2]string, source string, end bool) exchange {
	if err := e.host.SetProperty([]string{"source", "address"}, []byte(source)); err != nil {
		e.t.Fatal(err)
	}
	e.host.SetProperty([]string{"drydock.decision"}, []byte(noDecision))

	x := &emulatorExchange{rig: e, host: e.host, id: e.host.InitializeHttpContext()}
	e.streams = append(e.streams, x)
	if len(e.streams) > 1 {
		for _, open := range e.streams {
			open.withOthers = true
		}
	}

	e.host.CallOnRequestHeaders(x.id, headers, end)
	return x
}

// noDecision stands for the decision of a request that has none, since properties cannot be
// deleted.
const noDecision = "none"

func (e *emulatorRig) metric(name string) int {
	if n, err := e.host.GetCounterMetric(name); err == nil {
		return int(n)
	}

	n, err := e.host.GetGaugeMetric(name)
	if err != nil {
		e.t.Fatal(err)
	}
	return int(n)
}

func (e *emulatorRig) logged() []string {
	return slices.Concat(e.host.GetWarnLogs(), e.host.GetErrorLogs(), e.host.GetCriticalLogs())
}

// emulatorExchange is a request in the emulator.
type emulatorExchange struct {
	rig  *emulatorRig
	host proxytest.HostEmulator
	id   uint32 // of the emulator's HTTP context
	// withOthers is set once other requests were open at the same time. The note may then be
	// theirs.
	withOthers bool
	// queued are the parts of the request that Envoy would not deliver yet. Each function delivers
	// one part.
	queued []func()
}

// deliver delivers a part of the request after those that are queued.
func (x *emulatorExchange) deliver(part func()) {
	x.queued = append(x.queued, part)
	x.deliverQueued()
}

// deliverQueued delivers the queued parts, unless headers and body are paused together. Parts of a
// request that the filter has answered are dropped.
func (x *emulatorExchange) deliverQueued() {
	for len(x.queued) > 0 && x.host.GetCurrentHttpStreamAction(x.id) != actionStopAllIterationAndWatermark {
		part := x.queued[0]
		x.queued = x.queued[1:]
		if x.host.GetSentLocalResponse(x.id) == nil {
			part()
		}
	}
}

func (x *emulatorExchange) send(body string, end bool) {
	x.deliver(func() { x.host.CallOnRequestBody(x.id, []byte(body), end) })
}

func (x *emulatorExchange) sendTrailers() {
	x.deliver(func() { x.host.CallOnRequestTrailers(x.id, [][2]string{{"x-trailer", "1"}}) })
}

func (x *emulatorExchange) disconnect() {
	x.host.CompleteHttpContext(x.id)
	x.rig.streams = slices.DeleteFunc(x.rig.streams, func(o *emulatorExchange) bool { return o == x })
}

func (x *emulatorExchange) outcomeSoFar() (o outcome) {
	x.deliverQueued()

	note, err := x.host.GetProperty([]string{"drydock.decision"})
	switch {
	case x.withOthers:
		o.note = noteUnknown
	case err == nil && string(note) != noDecision:
		o.note = string(note)
	}

	switch r := x.host.GetSentLocalResponse(x.id); {
	case r != nil:
		o.reply = &sentReply{
			status:  int(r.StatusCode),
			headers: fields(r.Headers),
			body:    string(r.Data),
			grpc:    int(r.GRPCStatus),
		}
	case x.host.GetCurrentHttpStreamAction(x.id) != types.ActionContinue:
		o.paused = true
	default:
		o.headers = fields(x.host.GetCurrentRequestHeaders(x.id))
		o.body = string(x.host.GetCurrentRequestBody(x.id))
	}
	return o
}
