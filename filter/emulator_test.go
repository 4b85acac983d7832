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

// emulatorRig is the native rig, on the SDK's emulator.
type emulatorRig struct {
	t       *testing.T
	host    proxytest.HostEmulator
	taken   int    // how many of the emulator's callouts are in waiting or were answered
	waiting []call // callouts without an answer
	streams []*emulatorExchange
	numbers map[uint32]bool // those that the emulator has given to waiting callouts
}

func newEmulatorRig(t *testing.T, s setup) (*emulatorRig, error) {
	opt := proxytest.NewEmulatorOption().WithVMContext(&vm{}).WithPluginConfiguration([]byte(s.config)).
		WithProperty([]string{"node", "id"}, []byte("gateway-7"))
	host, reset := proxytest.NewHostEmulator(opt)

	t.Cleanup(reset)
	e := &emulatorRig{t: t, host: host, numbers: make(map[uint32]bool)}

	if host.StartVM() != types.OnVMStartStatusOK || host.StartPlugin() != types.OnPluginStartStatusOK {
		return e, errors.New(strings.Join(host.GetCriticalLogs(), "\n"))
	}
	return e, nil
}

func (e *emulatorRig) advance(d time.Duration) { time.Sleep(d) }

func (e *emulatorRig) tick() {
	if slices.ContainsFunc(e.waiting, func(c call) bool { return c.path() == maintenance.SyncPath }) {
		e.host.Tick() // makes no call that waits for long
	} else {
		e.withUniqueIDs(e.host.Tick)
	}
	e.pendingCalls()
}

// withUniqueIDs calls do, which may make callouts. The emulator numbers a callout by how many
// callouts wait, so that two of them can get the same number. Additional callouts that wait
// meanwhile make the numbers so high that they do not occur again.
func (e *emulatorRig) withUniqueIDs(do func()) {
	high := uint32(100)
	for _, c := range e.waiting {
		if c.id >= uint32(len(e.numbers)) {
			high = min(high, c.id)
		}
	}

	var fillers []uint32
	for uint32(len(e.numbers))+4 < high {
		proxywasm.SetEffectiveContext(proxytest.PluginContextID)
		id, err := proxywasm.DispatchHttpCall(filler, nil, nil, nil, 0, func(int, int, int) {})
		if err != nil {
			e.t.Fatal(err)
		}
		e.numbers[id] = true
		fillers = append(fillers, id)
	}

	do()
	e.pendingCalls()
	for _, id := range fillers {
		e.host.CallOnHttpCallResponse(id, nil, nil, nil)
		delete(e.numbers, id)
	}
}

const filler = "filler"

func (e *emulatorRig) pendingCalls() []call {
	all := e.host.GetCalloutAttributesFromContext(proxytest.PluginContextID)
	for _, c := range all[e.taken:] {
		if c.Upstream == filler {
			continue
		}
		if slices.ContainsFunc(e.waiting, func(o call) bool { return o.id == c.CalloutID }) {
			e.t.Fatalf("the emulator gave two callouts the number %d", c.CalloutID)
		}

		e.numbers[c.CalloutID] = true
		e.waiting = append(e.waiting, call{id: c.CalloutID, headers: fields(c.Headers), body: string(c.Body)})
	}

	e.taken = len(all)
	return slices.Clone(e.waiting)
}

func (e *emulatorRig) answer(c call, status int, body string) {
	var headers [][2]string
	if status != 0 {
		headers = [][2]string{{":status", fmt.Sprint(status)}}
	}

	do := func() {
		e.waiting = slices.DeleteFunc(e.waiting, func(o call) bool { return o.id == c.id })
		e.host.CallOnHttpCallResponse(c.id, headers, nil, []byte(body))
		e.pendingCalls()
		delete(e.numbers, c.id)
	}

	if c.path() == maintenance.AckPath {
		do()
	} else {
		e.withUniqueIDs(do)
	}
}

// open begins a request. The emulator has one filter state for all requests, which open resets.
func (e *emulatorRig) open(headers [][2]string, source string, end bool) exchange {
	if err := e.host.SetProperty([]string{"source", "address"}, []byte(source)); err != nil {
		e.t.Fatal(err)
	}
	e.host.SetProperty([]string{"drydock.decision"}, []byte("none"))

	x := &emulatorExchange{rig: e, host: e.host, id: e.host.InitializeHttpContext()}
	e.streams = append(e.streams, x)
	for _, other := range e.streams {
		other.withOthers = len(e.streams) > 1 || other.withOthers
	}

	e.host.CallOnRequestHeaders(x.id, headers, end)
	return x
}

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

type emulatorExchange struct {
	rig        *emulatorRig
	withOthers bool // other requests were open at the same time
	host       proxytest.HostEmulator
	id         uint32
	queued     []func() // parts that came while Envoy would deliver none, which the emulator would
}

func (x *emulatorExchange) do(part func()) {
	x.queued = append(x.queued, part)
	x.flow()
}

// flow delivers the queued parts of the request, unless headers and body are paused.
func (x *emulatorExchange) flow() {
	for len(x.queued) > 0 && x.host.GetCurrentHttpStreamAction(x.id) != actionStopAllIterationAndWatermark {
		part := x.queued[0]
		x.queued = x.queued[1:]
		if x.host.GetSentLocalResponse(x.id) == nil {
			part()
		}
	}
}

func (x *emulatorExchange) send(body string, end bool) {
	x.do(func() { x.host.CallOnRequestBody(x.id, []byte(body), end) })
}

func (x *emulatorExchange) sendTrailers() {
	x.do(func() { x.host.CallOnRequestTrailers(x.id, [][2]string{{"x-trailer", "1"}}) })
}

func (x *emulatorExchange) disconnect() {
	x.host.CompleteHttpContext(x.id)
	x.rig.streams = slices.DeleteFunc(x.rig.streams, func(o *emulatorExchange) bool { return o == x })
}

func (x *emulatorExchange) outcomeSoFar() (v outcome) {
	x.flow()

	note, err := x.host.GetProperty([]string{"drydock.decision"})
	switch {
	case x.withOthers:
		v.note = noteUnknown
	case err == nil && string(note) != "none":
		v.note = string(note)
	}

	switch r := x.host.GetSentLocalResponse(x.id); {
	case r != nil:
		v.reply = &sentReply{int(r.StatusCode), fields(r.Headers), string(r.Data), int(r.GRPCStatus), ""}
	case x.host.GetCurrentHttpStreamAction(x.id) != types.ActionContinue:
		v.paused = true
	default:
		v.headers, v.body = fields(x.host.GetCurrentRequestHeaders(x.id)), string(x.host.GetCurrentRequestBody(x.id))
	}
	return v
}
