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

// section and module encode a module (WebAssembly core specification, section 5.5).
func section(id byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{id}, uint64(len(body))), body...)
}

func module(sections ...[]byte) []byte {
	return slices.Concat(append([][]byte{[]byte("\x00asm\x01\x00\x00\x00")}, sections...)...)
}

func exports(names ...string) []byte {
	body := binary.AppendUvarint(nil, uint64(len(names)))
	for i, name := range names {
		body = append(binary.AppendUvarint(body, uint64(len(name))), name...)
		body = binary.AppendUvarint(append(body, 0), uint64(300*i)) // a function
	}
	return section(exportSection, body)
}

func needed() []string { return slices.Sorted(maps.Keys(keep)) }

func TestTrimKeepsOnlyNeededExports(t *testing.T) {
	all := needed()
	before, after := section(1, []byte{0}), section(10, bytes.Repeat([]byte{7}, 1000))
	noise := slices.Clone(all)
	noise = slices.Insert(noise, 3, "proxy_on_response_headers", strings.Repeat("x", 200))
	noise = append(noise, "proxy_on_new_connection")

	got, err := trim(module(before, exports(noise...), after))
	if err != nil {
		t.Fatal(err)
	}

	// Each export keeps the index of its function.
	var entries []byte
	for i, name := range noise {
		if keep[name] {
			entries = append(binary.AppendUvarint(entries, uint64(len(name))), name...)
			entries = binary.AppendUvarint(append(entries, 0), uint64(300*i))
		}
	}
	want := module(before, section(exportSection, append(binary.AppendUvarint(nil, uint64(len(all))), entries...)), after)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}

	if again, err := trim(got); err != nil || !bytes.Equal(again, got) {
		t.Errorf("a trimmed module is changed when it is trimmed again: %v", err)
	}
}

func TestTrimRefusesBrokenModules(t *testing.T) {
	whole := module(exports(needed()...))
	for name, c := range map[string]struct {
		module []byte
		err    string
	}{
		"nothing":            {nil, "not a WebAssembly module"},
		"text":               {[]byte("(module)"), "not a WebAssembly module"},
		"a component":        {append([]byte("\x00asm\x0d\x00\x01\x00"), whole[8:]...), "not a WebAssembly module"},
		"no exports":         {module(), "proxy_on_memory_allocate"},
		"an export missing":  {module(exports(needed()[1:]...)), "does not export " + needed()[0]},
		"two missing":        {module(exports(needed()[2:]...)), "does not export " + needed()[0] + ", " + needed()[1]},
		"one twice":          {module(exports(append(needed()[1:], needed()[1])...)), "does not export " + needed()[0]},
		"no section size":    {append(slices.Clone(whole), 1), "cut off"},
		"section too long":   {append(slices.Clone(whole), 1, 5, 0), "cut off"},
		"endless size":       {append(slices.Clone(whole), bytes.Repeat([]byte{0xff}, 12)...), "cut off"},
		"no export count":    {module(section(exportSection, nil)), "cut off"},
		"count past the end": {module(section(exportSection, []byte{200, 1})), "cut off"},
		"name past the end":  {module(section(exportSection, []byte{1, 100, 'a'})), "cut off"},
		"endless name":       {module(section(exportSection, append([]byte{1}, bytes.Repeat([]byte{0xff}, 9)...))), "cut off"},
		"huge name":          {module(section(exportSection, []byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'a', 0, 0})), "cut off"},
		"no kind":            {module(section(exportSection, []byte{1, 1, 'a'})), "cut off"},
		"no index":           {module(section(exportSection, []byte{1, 1, 'a', 0})), "cut off"},
	} {
		if got, err := trim(c.module); err == nil || !strings.Contains(err.Error(), c.err) || got != nil {
			t.Errorf("%s: got %d bytes, %v; want an error that contains %q", name, len(got), err, c.err)
		}
	}

	for n := range whole {
		if _, err := trim(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were accepted as a module", n, len(whole))
		}
	}
}

func TestFileThatCannotBeTrimmedIsUnchanged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.wasm")
	for _, c := range []struct {
		before, after []byte
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
	f.Add(module(exports("memory"), exports(needed()...)))
	f.Add(module(section(exportSection, []byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'a', 0, 0})))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x07\x80"))

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
