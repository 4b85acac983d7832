//go:build !wasm

package main

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file is for tests on the SDK's emulator, which lacks what host_wasm.go uses.

// actionStopIterationAndWatermark is ActionPause, since the emulator has no buffer limit.
const actionStopIterationAndWatermark = types.ActionPause

// sendLocalReply drops the response code details, which the emulator does not have.
func sendLocalReply(r *maintenance.Reply, _ string) error {
	return proxywasm.SendHttpResponse(uint32(r.Status), r.Headers, r.Body, int32(r.GRPCStatus))
}

// setGauge sets a gauge by adding the difference. The emulator has only one VM, so that no other
// one changes the gauge in between.
func setGauge(gauge proxywasm.MetricGauge, value uint64) { gauge.Add(int64(value) - gauge.Value()) }
