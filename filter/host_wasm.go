package main

import (
	"fmt"
	"unsafe"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file has what the filter needs of the proxy-wasm ABI and the SDK lacks.

// actionStopIterationAndWatermark pauses a part of a body and applies backpressure at Envoy's
// buffer limit, where ActionPause fails the stream: FilterDataStatus::StopIterationAndWatermark
// (proxy-wasm-cpp-host, context_interface.h). A part that was paused by ActionPause is shown again
// in the next callback, and in other callbacks of the module. A part that was paused by this action
// is shown in neither (Context::getBuffer in Envoy's source/extensions/common/wasm).
const actionStopIterationAndWatermark types.Action = 2

// proxySendLocalResponse is the host call that answers a request. The SDK's SendHttpResponse has no
// parameter for the response code details, which operators look for in access logs. A gRPC status
// of -1 means none.
//
//go:wasmimport env proxy_send_local_response
func proxySendLocalResponse(status uint32, details unsafe.Pointer, detailsSize uint32,
	body unsafe.Pointer, bodySize uint32, headers unsafe.Pointer, headersSize uint32, grpcStatus int32) uint32

// sendLocalReply answers the request in the effective context. details are for access logs.
func sendLocalReply(r *maintenance.Reply, details string) error {
	headers := r.EncodeHeaders()
	status := proxySendLocalResponse(uint32(r.Status),
		unsafe.Pointer(unsafe.StringData(details)), uint32(len(details)),
		unsafe.Pointer(unsafe.SliceData(r.Body)), uint32(len(r.Body)),
		unsafe.Pointer(unsafe.SliceData(headers)), uint32(len(headers)), int32(r.GRPCStatus))
	if status != 0 {
		return fmt.Errorf("proxy_send_local_response returned %d", status)
	}
	return nil
}

// proxyRecordMetric is the host call that sets a gauge. The SDK can only add to a gauge, which is
// wrong if two VMs do so at the same time.
//
//go:wasmimport env proxy_record_metric
func proxyRecordMetric(metric uint32, value uint64) uint32

// setGauge sets a gauge, which cannot fail if the gauge is defined.
func setGauge(gauge proxywasm.MetricGauge, value uint64) {
	proxyRecordMetric(uint32(gauge), value)
}
