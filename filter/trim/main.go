// Trim removes the exports of drydock.wasm that the filter does not use.
//
// The Go linker keeps every go:wasmexport of the SDK, and for each request the host calls every
// callback that a module exports, which was half of the filter's cost while nothing is on. The
// linker has no flag against it, so the build runs this program after the linker.
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

// keep names the exports that stay. A callback that the filter begins to implement must be added.
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

const exportSection = 7 // WebAssembly core specification, section 5.5.2

var errCutOff = errors.New("the module is cut off")

// trim rewrites the export section. It fails if an export that keep names is missing, because then
// keep and the filter disagree.
func trim(module []byte) ([]byte, error) {
	const preamble = "\x00asm\x01\x00\x00\x00"
	rest, ok := strings.CutPrefix(string(module), preamble)
	if !ok {
		return nil, errors.New("it is not a WebAssembly module")
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

// trimExports rewrites the body of the export section, and deletes from missing what it keeps.
func trimExports(section string, missing map[string]bool) (trimmed string, ok bool) {
	count, rest, ok := number(section)
	var kept uint64
	var entries []byte
	for ; ok && count > 0; count-- {
		entry := rest // begins with this entry
		var name string
		if name, rest, ok = sized(rest); !ok || rest == "" {
			return "", false
		}
		if _, rest, ok = number(rest[1:]); !ok { // the kind is one byte, the index a number
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

// number reads a LEB128 number from the front of s.
func number(s string) (n uint64, rest string, ok bool) {
	n, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen32)]))
	return n, s[max(size, 0):], size > 0
}

// sized reads a number from the front of s, and that many bytes after it.
func sized(s string) (bytes, rest string, ok bool) {
	n, rest, ok := number(s)
	if !ok || n > uint64(len(rest)) {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}
