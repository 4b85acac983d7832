// Command noop is the filter that e2e/bench compares Drydock's with: a proxy-wasm module built with
// the same SDK that decides nothing, and buffers the body of each request before it passes the
// request on.
package main

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetPluginContext(func(uint32) types.PluginContext { return &plugin{} })
}

type plugin struct{ types.DefaultPluginContext }

func (*plugin) NewHttpContext(uint32) types.HttpContext { return &stream{} }

type stream struct{ types.DefaultHttpContext }

// OnHttpRequestHeaders pauses a request that has a body. Envoy then keeps the headers, and what
// comes of the body, until a callback returns ActionContinue.
func (*stream) OnHttpRequestHeaders(_ int, endOfStream bool) types.Action {
	if endOfStream {
		return types.ActionContinue
	}
	return types.ActionPause
}

// OnHttpRequestBody lets the request go on once all of its body is there.
func (*stream) OnHttpRequestBody(_ int, endOfStream bool) types.Action {
	if endOfStream {
		return types.ActionContinue
	}
	return types.ActionPause
}
