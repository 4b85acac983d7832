package main

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The tests make modules of their own. section, module and exports encode them, as the WebAssembly
// core specification describes in section 5.5. Every test exports functions only.

// section returns a section of a module: its id, the size of its body, and the body.
func section(id byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{id}, uint64(len(body))), body...)
}

// preamble is what every module begins with: a magic number, and version 1 of the format.
const preamble = "\x00asm\x01\x00\x00\x00"

func module(sections ...[]byte) []byte {
	return append([]byte(preamble), slices.Concat(sections...)...)
}

// exports returns an export section. Each function has another index, which trim has to keep.
func exports(names ...string) []byte {
	body := binary.AppendUvarint(nil, uint64(len(names)))
	for i, name := range names {
		body = append(body, export(name, i)...)
	}
	return section(exportSection, body)
}

// export returns the entry of an export section for the i-th function.
func export(name string, i int) []byte {
	const function = 0                                // the kind of the export
	index := binary.AppendUvarint(nil, uint64(300*i)) // mostly more than one byte
	entry := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
	return append(append(entry, function), index...)
}

// needed returns the names of the exports that trim keeps, sorted.
func needed() []string { return slices.Sorted(maps.Keys(keep)) }

func TestTrimKeepsOnlyNeededExports(t *testing.T) {
	before := section(1, []byte{0})                     // the types, of which there are none
	after := section(10, bytes.Repeat([]byte{7}, 1000)) // the code, which trim does not look into
	names := needed()
	names = slices.Insert(names, 3, "proxy_on_response_headers", strings.Repeat("x", 200))
	names = append(names, "proxy_on_new_connection")

	got, err := trim(module(before, exports(names...), after))
	if err != nil {
		t.Fatal(err)
	}

	// Each export keeps the index of its function.
	body := binary.AppendUvarint(nil, uint64(len(keep)))
	for i, name := range names {
		if keep[name] {
			body = append(body, export(name, i)...)
		}
	}
	want := module(before, section(exportSection, body), after)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}

	if again, err := trim(got); err != nil || !bytes.Equal(again, got) {
		t.Errorf("a trimmed module is changed when it is trimmed again: %v", err)
	}
}

func TestTrimRefusesBrokenModules(t *testing.T) {
	whole := module(exports(needed()...))
	endless := bytes.Repeat([]byte{0xff}, 12)                               // a number of which each byte says that another one follows
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1} // 2^64-1
	exportsOf := func(body ...byte) []byte { return module(section(exportSection, body)) }
	and := func(more ...byte) []byte { return append(slices.Clone(whole), more...) }

	for name, c := range map[string]struct {
		module []byte
		err    string
	}{
		"nothing":                  {nil, "not a WebAssembly module"},
		"text":                     {[]byte("(module)"), "not a WebAssembly module"},
		"a component":              {append([]byte("\x00asm\x0d\x00\x01\x00"), whole[len(preamble):]...), "not a WebAssembly module"},
		"no exports":               {module(), "proxy_on_memory_allocate"},
		"an export missing":        {module(exports(needed()[1:]...)), "does not export " + needed()[0]},
		"two exports missing":      {module(exports(needed()[2:]...)), "does not export " + needed()[0] + ", " + needed()[1]},
		"one missing, one twice":   {module(exports(append(needed()[1:], needed()[1])...)), "does not export " + needed()[0]},
		"section without a size":   {and(1), "cut off"},
		"section past the end":     {and(1, 5, 0), "cut off"},
		"section of endless size":  {and(endless...), "cut off"},
		"no number of exports":     {exportsOf(), "cut off"},
		"exports past the end":     {exportsOf(200, 1), "cut off"},
		"name past the end":        {exportsOf(1, 100, 'a'), "cut off"},
		"name of endless size":     {exportsOf(append([]byte{1}, endless...)...), "cut off"},
		"name of size 2^64-1":      {exportsOf(slices.Concat([]byte{1}, huge, []byte{'a', 0, 0})...), "cut off"},
		"export without its kind":  {exportsOf(1, 1, 'a'), "cut off"},
		"export without its index": {exportsOf(1, 1, 'a', 0), "cut off"},
	} {
		if got, err := trim(c.module); err == nil || !strings.Contains(err.Error(), c.err) || got != nil {
			t.Errorf("%s: got %d bytes, %v; want an error that contains %q", name, len(got), err, c.err)
		}
	}

	// Nor is a part of a module one.
	for n := range whole {
		if _, err := trim(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were accepted as a module", n, len(whole))
		}
	}
}

func TestFileThatCannotBeTrimmedIsUnchanged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.wasm")
	for _, c := range []struct {
		before, after []byte // what the file has
		fails         bool
	}{
		{module(exports(append(needed(), "proxy_on_done")...)), module(exports(needed()...)), false},
		{[]byte("not yet"), []byte("not yet"), true},
	} {
		if err := os.WriteFile(file, c.before, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := trimFile(file); (err != nil) != c.fails {
			t.Errorf("err = %v, want an error: %v", err, c.fails)
		}

		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, c.after) {
			t.Errorf("got %q, %v; want %q", got, err, c.after)
		}
	}

	if err := trimFile(filepath.Join(t.TempDir(), "none.wasm")); err == nil {
		t.Error("no error for a file that does not exist")
	}
}

// FuzzTrim checks that trim does not panic, and that it does not change what it has trimmed.
func FuzzTrim(f *testing.F) {
	f.Add(module(section(1, []byte{0}), exports(append(needed(), "other")...), section(0, []byte{4, 'n', 'a', 'm', 'e'})))
	f.Add(module(exports("memory"), exports(needed()...))) // two export sections, which no linker makes
	// One export whose name is said to have 2^64-1 bytes.
	f.Add(module(section(exportSection, []byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'a', 0, 0})))
	// An export section whose size is cut off.
	f.Add([]byte(preamble + "\x07\x80"))

	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := trim(in)
		if err != nil {
			return
		}
		if again, err := trim(out); err != nil || !bytes.Equal(again, out) {
			t.Errorf("%q became %q, and that %q, %v", in, out, again, err)
		}
	})
}
