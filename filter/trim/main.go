// Trim drops the exports of drydock.wasm that the filter does not use.
//
// The Go linker keeps every go:wasmexport of the SDK, and the host calls every
// callback that a module exports, for each request: half of the filter's cost while
// all is off. There is no linker flag for it, hence this step after the link.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
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

// trim rewrites the export section. It fails when an export to keep is missing: then
// the list and the filter have come apart.
func trim(module []byte) ([]byte, error) {
	if len(module) < 8 || string(module[:4]) != "\x00asm" {
		return nil, fmt.Errorf("is no WebAssembly module")
	}
	out := append([]byte{}, module[:8]...)
	seen := 0
	for rest := module[8:]; len(rest) > 0; {
		id := rest[0]
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || uint64(len(rest)-1-n) < size {
			return nil, fmt.Errorf("section %d is cut off", id)
		}
		body := rest[1+n : 1+n+int(size)]
		rest = rest[1+n+int(size):]
		if id == exportSection {
			var err error
			if body, seen, err = trimExports(body); err != nil {
				return nil, err
			}
		}
		out = binary.AppendUvarint(append(out, id), uint64(len(body)))
		out = append(out, body...)
	}
	if seen != len(keep) {
		return nil, fmt.Errorf("has %d of the %d exports that the filter needs", seen, len(keep))
	}
	return out, nil
}

func trimExports(section []byte) (trimmed []byte, kept int, err error) {
	count, n := binary.Uvarint(section)
	if n <= 0 {
		return nil, 0, fmt.Errorf("the export section is cut off")
	}
	var entries []byte
	for rest := section[n:]; count > 0; count-- {
		length, a := binary.Uvarint(rest)
		if a <= 0 || uint64(len(rest)-a) < length+1 {
			return nil, 0, fmt.Errorf("the export section is cut off")
		}
		name := string(rest[a : a+int(length)])
		end := a + int(length) + 1 // the kind
		_, b := binary.Uvarint(rest[end:])
		if b <= 0 {
			return nil, 0, fmt.Errorf("the export section is cut off")
		}
		end += b
		if keep[name] {
			entries = append(entries, rest[:end]...)
			kept++
		}
		rest = rest[end:]
	}
	return append(binary.AppendUvarint(nil, uint64(kept)), entries...), kept, nil
}
