package differential

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// This file writes bodies in charsets and content codings, from which the generators of the rigs
// choose. A gate that reads such a body in another way than the server behind it may miss a write.

// Transcode returns s in a charset, which is named in lower case. If Transcode does not know the
// charset, it returns s unchanged, in UTF-8.
//
// "utf-16" is little-endian without a byte order mark. RFC 2781 section 4.3 recommends that readers
// take such a text for big-endian, but decoders such as iconv-lite, which Express uses, take it for
// little-endian. A caller that wants a mark puts U+FEFF in front of s. "latin1" has no characters
// above U+00FF: Transcode keeps only the low byte of those.
func Transcode(charset, s string) (out []byte) {
	switch charset {
	case "utf-16", "utf-16le":
		for _, unit := range utf16.Encode([]rune(s)) {
			out = binary.LittleEndian.AppendUint16(out, unit)
		}

	case "utf-16be":
		for _, unit := range utf16.Encode([]rune(s)) {
			out = binary.BigEndian.AppendUint16(out, unit)
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
		for _, r := range s {
			if plainInUTF7(r) {
				out = append(out, byte(r))
			} else {
				out = appendBase64InUTF7(out, r)
			}
		}

	default:
		out = []byte(s)
	}
	return out
}

// plainInUTF7 reports whether Transcode leaves a character as it is in UTF-7: a letter or digit of
// ASCII, or a space. It encodes the letter m, which UTF-7 need not encode, so that a gate that does
// not decode UTF-7 cannot read the words "mutation" and "_method".
func plainInUTF7(r rune) bool {
	return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == ' ') && r != 'm'
}

// appendBase64InUTF7 appends a character as "+", its UTF-16BE in base64, and "-" (RFC 2152).
func appendBase64InUTF7(out []byte, r rune) []byte {
	var utf16be []byte
	for _, unit := range utf16.Encode([]rune{r}) {
		utf16be = binary.BigEndian.AppendUint16(utf16be, unit)
	}

	out = append(out, '+')
	out = base64.RawStdEncoding.AppendEncode(out, utf16be)
	return append(out, '-')
}

// Compress returns a body in the codings that the value of a Content-Encoding lists, separated by
// commas and applied in this order. It ignores "identity" and codings that it does not know.
//
// "deflate-raw" is a name of this package, not of HTTP: the data of deflate without the zlib header
// and checksum that RFC 9110 section 8.4.1.2 requires. Some clients send that as "deflate".
func Compress(encoding string, body []byte) []byte {
	for coding := range strings.SplitSeq(encoding, ",") {
		var b bytes.Buffer
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			writeAndClose(gzip.NewWriter(&b), body)
		case "deflate":
			writeAndClose(zlib.NewWriter(&b), body)
		case "deflate-raw":
			w, _ := flate.NewWriter(&b, flate.DefaultCompression) // fails only for an unknown level
			writeAndClose(w, body)
		case "br":
			writeBrotli(&b, body)
		default:
			b.Write(body)
		}

		body = b.Bytes()
	}
	return body
}

// writeAndClose writes a body through a compressor. Writing to a buffer does not fail.
func writeAndClose(w io.WriteCloser, body []byte) {
	w.Write(body)
	w.Close()
}

// writeBrotli writes a body as a brotli stream that does not compress: Go's standard library has no
// encoder, and every decoder accepts uncompressed meta-blocks. The fields fill each byte from its
// lowest bit on (RFC 7932 sections 9.1 and 9.2). At the start of the stream:
//
//	WBITS            1 bit   0: a window of 64 KiB
//
// For each block of up to 64 KiB, followed by zeros up to the next byte and the bytes of the block:
//
//	ISLAST           1 bit   0
//	MNIBBLES         2 bits  0: MLEN-1 has four nibbles
//	MLEN-1          16 bits  the length of the block, minus 1
//	ISUNCOMPRESSED   1 bit   1
//
// At the end of the stream:
//
//	ISLAST           1 bit   1
//	ISLASTEMPTY      1 bit   1
func writeBrotli(b *bytes.Buffer, body []byte) {
	const blockHeader = 1 + 2 + 16 + 1 // bits

	// bits holds the low nbits bits that are not written yet. It begins with WBITS.
	bits, nbits := uint32(0), 1
	for block := range slices.Chunk(body, 1<<16) {
		bits |= uint32(len(block)-1) << (nbits + 1 + 2) // ISLAST and MNIBBLES are 0
		bits |= 1 << (nbits + 1 + 2 + 16)               // ISUNCOMPRESSED

		for nbits += blockHeader; nbits > 0; nbits -= 8 {
			b.WriteByte(byte(bits))
			bits >>= 8
		}
		b.Write(block)
		bits, nbits = 0, 0
	}

	b.WriteByte(byte(bits | 0b11<<nbits)) // ISLAST and ISLASTEMPTY
}
