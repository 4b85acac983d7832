package maintenance

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonObject is JSON text that ends inside an object. Its methods append fields to this object. The
// code that makes a jsonObject writes the brackets, and the keys need no escaping because they are
// constants. The filter has this writer because encoding/json would grow the module by a tenth.
type jsonObject []byte

// key appends the name of a field, after which its value must be appended.
func (o *jsonObject) key(key string) {
	b := *o
	isFirst := b[len(b)-1] == '{'
	if !isFirst {
		*o = append(b, ',')
	}
	*o = append(append(append(*o, '"'), key...), '"', ':')
}

// text appends a field whose value is a string.
func (o *jsonObject) text(key, value string) {
	o.key(key)
	// AppendQuote only fails for bytes that are not UTF-8, and then it has replaced those bytes.
	*o, _ = jsontext.AppendQuote(*o, value)
}

// number appends a field whose value is a number.
func (o *jsonObject) number(key string, n int64) {
	o.key(key)
	*o = strconv.AppendInt(*o, n, 10)
}

// time appends a field whose value is a time, in UTC.
func (o *jsonObject) time(key string, t time.Time) {
	o.key(key)
	*o = append(t.UTC().AppendFormat(append(*o, '"'), time.RFC3339Nano), '"')
}

// version appends the two fields of a version.
func (o *jsonObject) version(v Version) {
	o.key("epoch")
	*o = strconv.AppendUint(*o, v.Epoch, 10)
	o.key("revision")
	*o = strconv.AppendUint(*o, v.Revision, 10)
}

// appendPairs appends pairs of keys and values as proxy-wasm serialises maps, with sizes as 32-bit
// numbers, lowest byte first: the number of pairs, then the sizes of each key and value, and then
// each key and value with a NUL after it, which the sizes do not count.
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
