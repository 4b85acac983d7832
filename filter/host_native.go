//go:build !wasm

package main

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// actionHoldBack is ActionPause on the emulator, which has no limit and knows no other way
// to hold a body.
const actionHoldBack = types.ActionPause

// sendLocalReply is for tests on the SDK's emulator, which has no response code details.
func sendLocalReply(r *maintenance.Reply, _ string) error {
	return proxywasm.SendHttpResponse(uint32(r.Status), r.Headers, r.Body, int32(r.GRPCStatus))
}

// record sets a gauge. The emulator has one VM, so that nothing comes in between.
func record(gauge proxywasm.MetricGauge, value uint64) { gauge.Add(int64(value) - gauge.Value()) }
