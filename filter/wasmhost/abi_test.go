package wasmhost

import (
	"bytes"
	"testing"
)

// FuzzPairs reads arbitrary bytes of a module as pairs and writes them again.
func FuzzPairs(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0, 0, 0, 0})
	f.Add(appendPairs(nil, Headers{{":method", "GET"}, {"a", ""}, {"", "b"}}))
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 0})
	f.Add([]byte{255, 255, 255, 255})

	f.Fuzz(func(t *testing.T, b []byte) {
		pairs := parsePairs(b)
		if pairs == nil {
			return
		}

		if got := appendPairs(nil, pairs); !bytes.Equal(got, b) {
			t.Errorf("%q was read as %q, which is %q", b, pairs, got)
		}

		for _, p := range pairs.normalized() {
			if !pairs.normalized().Has(p[0]) {
				t.Errorf("%q is missing in %q", p[0], pairs)
			}
		}
	})
}
