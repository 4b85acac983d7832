// Trim removes the exports of drydock.wasm that the filter does not use.
//
// The Go linker keeps every go:wasmexport of the SDK, and for each request the host calls every
// callback that a module exports, which was half of the filter's cost while nothing is on. The
// linker has no flag against it, so the build runs this program after the linker.
//
// A module is a preamble and a sequence of sections. A section is a byte that says what it has, the
// size of its body, and the body. Numbers such as sizes are encoded as LEB128, which
// encoding/binary calls Uvarint. Trim copies all sections but the export section, from which it
// removes entries. The functions remain in the module.
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

// keep names the exports that stay: the memory, the module's initialization, the ABI's version, and
// the callbacks that the filter needs. A callback that the filter begins to implement must be
// added.
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

// trimFile trims a file in place. If that fails, the file is as it was.
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

// exportSection is the byte that the export section begins with (WebAssembly core specification,
// section 5.5.2).
const exportSection = 7

var errCutOff = errors.New("the module is cut off")

// trim returns the module with only the exports that keep names. It fails if one of them is
// missing, because then keep and the filter disagree.
func trim(module []byte) ([]byte, error) {
	const preamble = "\x00asm\x01\x00\x00\x00" // of a module in version 1 of the binary format
	rest, ok := strings.CutPrefix(string(module), preamble)
	if !ok {
		return nil, errors.New("it is not a WebAssembly module")
	}

	out := []byte(preamble)
	missing := maps.Clone(keep) // the exports that were not found yet
	for rest != "" {
		id := rest[0]
		body, next, ok := readBytes(rest[1:])
		if !ok {
			return nil, errCutOff
		}
		rest = next

		if id == exportSection {
			body, ok = trimExports(body, missing)
			if !ok {
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

// trimExports returns the body of the export section with only the exports in missing, and deletes
// these from missing. It returns false if the section is cut off.
//
// The body is the number of exports and an entry for each: the size of its name and the name, a
// byte for its kind (function, memory, …), and its index among those of its kind.
func trimExports(section string, missing map[string]bool) (trimmed string, ok bool) {
	count, rest, ok := readNumber(section)
	if !ok {
		return "", false
	}

	var kept uint64
	var keptEntries []byte
	for range count {
		fromEntry := rest
		name, afterName, ok := readBytes(rest)
		if !ok || afterName == "" {
			return "", false
		}
		_, rest, ok = readNumber(afterName[1:]) // the index, after the kind
		if !ok {
			return "", false
		}

		if missing[name] {
			delete(missing, name)
			kept++
			entry := fromEntry[:len(fromEntry)-len(rest)]
			keptEntries = append(keptEntries, entry...)
		}
	}
	return string(append(binary.AppendUvarint(nil, kept), keptEntries...)), true
}

// readNumber reads a LEB128 number from the front of s. It returns false if s is cut off, or if the
// number has more bytes than one of 32 bits may have.
func readNumber(s string) (n uint64, rest string, ok bool) {
	n, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen32)]))
	if size <= 0 {
		return 0, "", false
	}
	return n, s[size:], true
}

// readBytes reads a number from the front of s, and that many bytes after it.
func readBytes(s string) (bytes, rest string, ok bool) {
	n, rest, ok := readNumber(s)
	if !ok || n > uint64(len(rest)) {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}
