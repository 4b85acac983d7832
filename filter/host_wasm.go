package main

import (
	"fmt"
	"unsafe"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// actionHoldBack holds a part of a body and presses back at Envoy's buffer limit, where
// ActionPause fails the stream: FilterDataStatus::StopIterationAndWatermark
// (proxy-wasm-cpp-host, context_interface.h). Envoy shows what it held by ActionPause
// again in the next callback, and from other callbacks of the module; what it held by
// this it does not (Context::getBuffer in its source/extensions/common/wasm).
const actionHoldBack types.Action = 2

// The SDK's SendHttpResponse has no room for the response code details that
// operators look for in access logs.
//
//go:wasmimport env proxy_send_local_response
func proxySendLocalResponse(status uint32, details unsafe.Pointer, detailsSize uint32,
	body unsafe.Pointer, bodySize uint32, headers unsafe.Pointer, headersSize uint32, grpcStatus int32) uint32

func sendLocalReply(r *maintenance.Reply, details string) error {
	headers := r.EncodeHeaders()
	if status := proxySendLocalResponse(uint32(r.Status), unsafe.Pointer(unsafe.StringData(details)), uint32(len(details)),
		unsafe.Pointer(unsafe.SliceData(r.Body)), uint32(len(r.Body)), unsafe.Pointer(unsafe.SliceData(headers)), uint32(len(headers)), int32(r.GRPCStatus)); status != 0 {
		return fmt.Errorf("proxy_send_local_response returned %d", status)
	}
	return nil
}

// The SDK can only add to a gauge, which two VMs that do so at once get wrong.
//
//go:wasmimport env proxy_record_metric
func proxyRecordMetric(metric uint32, value uint64) uint32

// record sets a gauge.
func record(gauge proxywasm.MetricGauge, value uint64) {
	proxyRecordMetric(uint32(gauge), value) // it fails for no gauge that is defined
}
