// Trim drops the exports of drydock.wasm that the filter does not use.
//
// The Go linker keeps every go:wasmexport of the SDK, and the host calls every
// callback that a module exports, for each request: half of the filter's cost while
// all is off. There is no linker flag for it, hence this step after the link.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// keep is what the filter implements. A callback that is added there belongs here.
var keep = map[string]bool{
	"memory":                      true,
	"_initialize":                 true,
	"proxy_abi_version_0_2_0":     true,
	"proxy_on_memory_allocate":    true,
	"proxy_on_vm_start":           true,
	"proxy_on_configure":          true,
	"proxy_on_context_create":     true,
	"proxy_on_tick":               true,
	"proxy_on_http_call_response": true,
	"proxy_on_request_headers":    true,
	"proxy_on_request_body":       true,
	"proxy_on_request_trailers":   true,
	"proxy_on_log":                true,
	"proxy_on_delete":             true,
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: trim FILE.wasm")
		os.Exit(2)
	}
	if err := trimFile(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "trimming %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func trimFile(name string) error {
	module, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	trimmed, err := trim(module)
	if err != nil {
		return err
	}
	return os.WriteFile(name, trimmed, 0o644)
}

const exportSection = 7 // WebAssembly core specification section 5.5.2

var errCutOff = errors.New("the module is cut off")

// trim rewrites the export section. It fails when an export to keep is missing: then
// the list and the filter have come apart.
func trim(module []byte) ([]byte, error) {
	const preamble = "\x00asm\x01\x00\x00\x00"
	rest, ok := strings.CutPrefix(string(module), preamble)
	if !ok {
		return nil, errors.New("it is no WebAssembly module")
	}
	out := []byte(preamble)
	missing := maps.Clone(keep)
	for rest != "" {
		id := rest[0]
		body, next, ok := sized(rest[1:])
		if !ok {
			return nil, errCutOff
		}
		rest = next
		if id == exportSection {
			if body, ok = trimExports(body, missing); !ok {
				return nil, errCutOff
			}
		}
		out = binary.AppendUvarint(append(out, id), uint64(len(body)))
		out = append(out, body...)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("it does not export %s", strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
	}
	return out, nil
}

// trimExports takes the exports that it keeps out of missing.
func trimExports(section string, missing map[string]bool) (trimmed string, ok bool) {
	count, rest, ok := number(section)
	var kept uint64
	var entries []byte
	for ; ok && count > 0; count-- {
		entry := rest
		var name string
		if name, rest, ok = sized(rest); !ok || rest == "" {
			return "", false
		}
		if _, rest, ok = number(rest[1:]); !ok { // an index, behind the kind
			return "", false
		}
		if missing[name] {
			delete(missing, name)
			kept++
			entries = append(entries, entry[:len(entry)-len(rest)]...)
		}
	}
	return string(append(binary.AppendUvarint(nil, kept), entries...)), ok
}

// number and sized read the front of s: a LEB128 number, or that many bytes.
func number(s string) (n uint64, rest string, ok bool) {
	n, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen32)]))
	return n, s[max(size, 0):], size > 0
}

func sized(s string) (bytes, rest string, ok bool) {
	n, rest, ok := number(s)
	if !ok || n > uint64(len(rest)) {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}
