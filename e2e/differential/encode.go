package differential

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Transcode returns s in a charset, which is given by its name in lower case. In a charset that it
// does not know, it returns s unchanged.
func Transcode(charset, s string) (out []byte) {
	switch charset {
	case "utf-16", "utf-16le":
		for _, u := range utf16.Encode([]rune(s)) {
			out = binary.LittleEndian.AppendUint16(out, u)
		}

	case "utf-16be":
		for _, u := range utf16.Encode([]rune(s)) {
			out = binary.BigEndian.AppendUint16(out, u)
		}

	case "utf-32":
		for _, r := range s {
			out = binary.LittleEndian.AppendUint32(out, uint32(r))
		}

	case "latin1":
		for _, r := range s {
			out = append(out, byte(r))
		}

	case "utf-7":
		// Every character may be written in base64. Letters other than m, digits and spaces stay as
		// they are here.
		for _, r := range s {
			if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == ' ') && r != 'm' {
				out = append(out, byte(r))
				continue
			}

			var u []byte
			for _, c := range utf16.Encode([]rune{r}) {
				u = binary.BigEndian.AppendUint16(u, c)
			}
			out = append(append(append(out, '+'), base64.RawStdEncoding.EncodeToString(u)...), '-')
		}

	default:
		out = []byte(s)
	}
	return out
}

// Compress returns a body in the codings that a Content-Encoding lists. "deflate-raw" is what some
// clients send as deflate: the data without the frame of zlib.
func Compress(encoding string, body []byte) []byte {
	for e := range strings.SplitSeq(encoding, ",") {
		var b bytes.Buffer
		switch strings.ToLower(strings.TrimSpace(e)) {
		case "gzip", "x-gzip":
			w := gzip.NewWriter(&b)
			w.Write(body)
			w.Close()
		case "deflate":
			w := zlib.NewWriter(&b)
			w.Write(body)
			w.Close()
		case "deflate-raw":
			w, _ := flate.NewWriter(&b, flate.DefaultCompression)
			w.Write(body)
			w.Close()

		case "br":
			brotli(&b, body)
		default:
			b.Write(body)
		}

		body = b.Bytes()
	}
	return body
}

// brotli writes a body in uncompressed meta-blocks (RFC 7932 section 9.2), which every decoder
// accepts: a window of 16 bits; then for each block of up to 64 KiB ISLAST 0, four nibbles of
// length and ISUNCOMPRESSED 1; and an empty last block.
func brotli(b *bytes.Buffer, body []byte) {
	bits, n := uint32(0), 1 // WBITS 0: 16
	for chunk := range slices.Chunk(body, 1<<16) {
		bits |= uint32(len(chunk)-1)<<(n+3) | 1<<(n+19)
		for n += 20; n > 0; n -= 8 {
			b.WriteByte(byte(bits))
			bits >>= 8
		}

		b.Write(chunk)
		bits, n = 0, 0
	}
	b.WriteByte(byte(bits | 3<<n))
}
