package maintenance

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonObject is JSON that ends within an object, to which fields are appended. A marshaller would
// grow the module by a tenth.
type jsonObject []byte

func (o *jsonObject) key(key string) {
	if b := *o; b[len(b)-1] != '{' {
		*o = append(b, ',')
	}
	*o = append(append(append(*o, '"'), key...), '"', ':')
}

func (o *jsonObject) text(key, value string) {
	o.key(key)
	// Its only error is about bytes that are not UTF-8, and it has replaced them.
	*o, _ = jsontext.AppendQuote(*o, value)
}

func (o *jsonObject) number(key string, n int64) {
	o.key(key)
	*o = strconv.AppendInt(*o, n, 10)
}

func (o *jsonObject) time(key string, t time.Time) {
	o.key(key)
	*o = append(t.UTC().AppendFormat(append(*o, '"'), time.RFC3339Nano), '"')
}

func (o *jsonObject) version(v Version) {
	o.key("epoch")
	*o = strconv.AppendUint(*o, v.Epoch, 10)
	o.key("revision")
	*o = strconv.AppendUint(*o, v.Revision, 10)
}

// appendPairs appends pairs as proxy-wasm serialises maps: their number, the sizes of each key and
// value, and then each key and value with a NUL after it.
func appendPairs(b []byte, pairs [][2]string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pairs)))

	for _, p := range pairs {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p[0])))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p[1])))
	}

	for _, p := range pairs {
		b = append(append(b, p[0]...), 0)
		b = append(append(b, p[1]...), 0)
	}

	return b
}
