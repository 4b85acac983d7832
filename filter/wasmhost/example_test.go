package wasmhost_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// A request is paused until the plugin has an answer from its controller, on a clock that stands
// still. The module (guest) runs the script in the configuration of the plugin.
func Example() {
	clock := wasmhost.NewManualClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	host := wasmhost.New(wasmhost.Config{
		Clock:    clock.Clock(),
		Clusters: map[string]http.Handler{"controller": nil}, // its calls wait for the test
		Strict:   true,
	})
	defer host.Close()

	worker, err := host.NewVM(guest(), wasmhost.VMConfig{Thread: "worker_0", Env: map[string]string{"TOKEN": "t"}})
	if err != nil {
		panic(err)
	}
	plugin, err := worker.Plugin(wasmhost.PluginConfig{
		Name: "drydock",
		Configuration: []byte("start: tick 100; counter blocked 1\n" +
			"request_headers: pause; call controller /state\n" +
			"call: body call; reply 503 closed retry-after=60"),
		AllowOnHeadersStopIteration: true,
	})
	if err != nil {
		panic(err)
	}

	s := plugin.NewStream(wasmhost.StreamConfig{Properties: map[string]any{"source": map[string]any{"address": "10.0.0.1:4711"}}})
	s.RequestHeaders(wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "shop.example"}}, true)
	paused, _ := s.Paused()
	fmt.Println("paused:", paused, "upstream received:", s.Upstream().Headers)

	clock.Advance(time.Second)
	worker.Tick()
	host.Callouts()[0].Respond(wasmhost.Headers{{":status", "200"}}, []byte("no-access"), nil)

	answer := s.Downstream()
	fmt.Println(answer.Status(), answer.Headers.Get("retry-after"), string(answer.Body))
	blocked, _ := host.Metric("blocked")
	fmt.Println("blocked:", blocked.Value, "violations:", len(host.Violations()))
	// Output:
	// paused: true upstream received: []
	// 503 60 closed
	// blocked: 1 violations: 0
}
