package maintenance

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// This file follows the ways in which servers change a path before they look it up. Some server
// decodes "%2f", another removes ";x", a third resolves "..". What each step makes of a path is a
// further reading of it, to which all steps are applied again (readings.go has what becomes of the
// readings). Most paths look the same to every server, so a path is first searched for traits, and
// only the ways that match its traits are followed.

// traits are the properties of a path for which some server reads it in another way, as bits.
type traits uint16

const (
	hasEscape      traits = 1 << iota // a percent sign
	hasSlashEscape                    // an escape that decodes to / or \
	hasBackslash
	hasSemicolon
	hasEnd         // a character at which some server ends the path
	hasEmpty       // an empty segment that is not the last, or no slash at the beginning
	hasDots        // a segment that begins with a dot, so it may be . or ..
	hasHighBytes   // bytes beyond ASCII
	hasEdges       // blanks, control characters or dots at the edge of a segment
	hasScript      // .ph anywhere (as in .php), or a segment with a dot that is not the last
	leadingSlashes // two slashes at the beginning
	hasLineEnds    // a tab or the end of a line
)

// byteTraits are the traits that a path has because of one byte, wherever it is.
var byteTraits = func() (t [256]traits) {
	t['%'], t['\\'], t[';'] = hasEscape, hasBackslash, hasSemicolon
	t['#'], t['?'], t[0] = hasEnd, hasEnd, hasEnd
	t['\t'], t['\n'], t['\r'] = hasLineEnds, hasLineEnds, hasLineEnds
	for c := 0x80; c <= 0xff; c++ {
		t[c] = hasHighBytes
	}
	return t
}()

// pathWays are the ways in which servers turn a path into the one that they look up. A server may
// combine several of them, in any order and more than once. A way only matters for paths that have
// one of its traits.
var pathWays = [...]struct {
	name  string              // the row of the way in docs/read-only.md
	where traits              // the way is followed if the path has one of them
	read  func(string) string // returns the path that a server makes of a path
}{
	{"percent-decoding", hasEscape, percentDecode},
	{"percent-decoding in segments", hasSlashEscape, percentDecodeSegments},
	{"overlong UTF-8", hasHighBytes, decodeOverlong},
	{"backslashes", hasBackslash, replaceBackslashes},
	{"path parameters", hasSemicolon, removeParams},
	{"empty segments", hasEmpty, mergeSlashes},
	{"network-path reference", leadingSlashes, removeAuthority},
	{"dot segments", hasDots, resolveDots},
	{"format suffix as a segment", hasDots, removeSuffixSegment},
	{"blanks and dots at the edges", hasEdges, trimSegments},
	{"tabs and line ends", hasLineEnds, removeLineEnds},
	{"path info", hasScript, pathInfo},
	{"path info without a slash", hasScript, joinedPathInfo},
	{"path under the script's folder", hasScript, removeScript},
	{"path under the script's folder without a slash", hasScript, removeJoinedScript},
	{"end at #", hasEnd, func(p string) string { return upTo(p, '#') }},
	{"end at ?", hasEnd, func(p string) string { return upTo(p, '?') }},
	{"end at ;", hasSemicolon, func(p string) string { return upTo(p, ';') }},
	{"end at NUL", hasEnd, func(p string) string { return upTo(p, 0) }},
}

// followPaths adds what the ways make of each reading, until they make nothing new. paths grows
// while the loop runs. If there are more or longer readings than its bounds allow, it sets anyPath.
func (rs *readings) followPaths() {
	work := 0 // the length of the readings so far, in bytes
	for i := 0; i < len(rs.paths) && !rs.anyPath; i++ {
		path := rs.paths[i]
		if work += len(path); len(path) > maxReadPath || work > maxReadingWork {
			rs.anyPath = true
			return
		}

		rs.cutPrefixes(path)

		found := traitsOf(path)
		if found&hasScript != 0 {
			if _, isScript := findScript(path); !isScript {
				found &^= hasScript
			}
		}

		if found&leadingSlashes != 0 {
			// A URL parser takes what follows "//" for a host (RFC 3986 section 4.2).
			host, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
			rs.readHost(host)
		}

		if found != 0 && work+len(path) > maxReadingWork {
			rs.anyPath = true // one more reading of this length would be too much
			return
		}

		for _, way := range pathWays {
			if found&way.where != 0 {
				rs.addPath(way.read(path))
			}
		}
	}
}

// traitsOf returns the traits of a path. An ordinary path has none, and then this one pass over its
// bytes is all that it costs.
func traitsOf(path string) (found traits) {
	if path == "" || path[0] != '/' {
		found |= hasEmpty
	}
	if strings.HasPrefix(path, "//") {
		found |= leadingSlashes
	}

	last := byte('/') // the byte before c
	hasDot := false   // whether this segment has a dot
	for i := 0; i < len(path); i++ {
		c := path[i]
		found |= byteTraits[c]

		switch {
		case c == '/':
			if i > 0 && last == '/' {
				found |= hasEmpty
			}
			if isEdge(last) { // c ends a segment
				found |= hasEdges
			}
			if hasDot {
				found |= hasScript
			}

			hasDot = false
		case c == '.':
			hasDot = true
			if last == '/' {
				found |= hasDots
			}
			if i+2 < len(path) && path[i+1]|0x20 == 'p' && path[i+2]|0x20 == 'h' {
				found |= hasScript
			}
		case c == '%':
			if escaped, size := escape(path[i:]); size > 0 && (escaped == '/' || escaped == '\\') {
				found |= hasSlashEscape
			}
		case last == '/' && isEdge(c):
			found |= hasEdges
		}

		last = c
	}

	if isEdge(last) {
		found |= hasEdges
	}

	return found
}

// isEdge reports whether some server drops c at the end of a segment. All of these characters,
// except for the dot, may also be dropped at the beginning of a segment. 0x7f is DEL.
func isEdge(c byte) bool { return c <= ' ' || c == 0x7f || c == '.' }

// isPlainPath reports whether a rule may have this path: every server must read it alike, apart
// from letter case, format suffixes and scripts.
func isPlainPath(path string) bool {
	const disguises = hasEscape | hasBackslash | hasSemicolon | hasEnd | hasEmpty | hasHighBytes
	if traitsOf(path)&disguises != 0 || strings.IndexFunc(path, isBlank) >= 0 {
		return false
	}

	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}

	return true
}

// percentDecode undoes one level of percent-encoding, including the %uXXXX of IIS for ASCII
// characters.
func percentDecode(p string) string { return unescape(p, "") }

// percentDecodeSegments does the same, but does not decode slashes and backslashes, like servers
// that split a path before they decode it (RFC 3986 section 2.2). To them, "a%2fb/%2e%2e" is the
// segment "a/b" and a step back over it.
func percentDecodeSegments(p string) string { return unescape(p, `/\`) }

// unescape decodes the escapes in p, apart from those of the characters in except.
func unescape(p, except string) string {
	if strings.IndexByte(p, '%') < 0 {
		return p
	}

	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		c, size := p[i], 1
		if c == '%' {
			decoded, n := escape(p[i:])
			if n > 0 && strings.IndexByte(except, decoded) < 0 {
				c, size = decoded, n
			}
		}

		b = append(b, c)
		i += size - 1
	}

	return string(b)
}

// escape decodes the %XX or %u00XX that s begins with, and returns its size. The size is 0 if s
// begins with neither.
func escape(s string) (c byte, size int) {
	digits := len("%") // the index of the two digits
	if len(s) > len("%u00") && s[1]|0x20 == 'u' && s[2:4] == "00" {
		digits = len("%u00")
	}
	if len(s) < digits {
		return 0, 0
	}

	c, ok := graphql.HexByte(s[digits:])
	if !ok {
		return 0, 0
	}

	return c, digits + 2
}

// decodeOverlong decodes forms of ASCII characters that UTF-8 forbids (RFC 3629 section 3) but
// lenient decoders accept: C0 AF, E0 80 AF and F0 80 80 AF for "/".
func decodeOverlong(p string) string {
	if utf8.ValidString(p) {
		return p
	}

	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		// Of the byte before the last one, lead, only the lowest bit counts. last is the index of
		// the last byte of an overlong form, or i if there is none.
		lead, last := p[i], i
		switch {
		case lead|1 == 0xc1: // C0 or C1
			last = i + 1
		case strings.HasPrefix(p[i:], "\xe0\x80"), strings.HasPrefix(p[i:], "\xe0\x81"):
			lead, last = p[i+1], i+2
		case strings.HasPrefix(p[i:], "\xf0\x80\x80"), strings.HasPrefix(p[i:], "\xf0\x80\x81"):
			lead, last = p[i+2], i+3
		}

		isOverlong := last > i && last < len(p) && p[last]&0xc0 == 0x80 // the last byte continues it
		if isOverlong {
			b = append(b, lead&1<<6|p[last]&0x3f) // six bits are in the last byte
			i = last
		} else {
			b = append(b, p[i])
		}
	}

	return string(b)
}

// replaceBackslashes reads backslashes as slashes, as Windows and URL parsers do (WHATWG URL, "path
// start state").
func replaceBackslashes(p string) string { return strings.ReplaceAll(p, `\`, "/") }

// removeParams removes ";…" from every segment (RFC 3986 section 3.3).
func removeParams(p string) string {
	return mapSegments(p, func(segment string) string { return upTo(segment, ';') })
}

// removeSuffixSegment removes a last segment that is only a format suffix, because what remains of
// "/x/.json" can be read further. All other suffixes are handled when paths are compared.
func removeSuffixSegment(p string) string {
	bare := strings.TrimRight(p, "/")
	slash := strings.LastIndexByte(bare, '/')
	if last := bare[slash+1:]; strings.HasPrefix(last, ".") && strings.Trim(last, ".") != "" {
		return bare[:slash+1]
	}
	return p
}

// trimSegments removes blanks and control characters from both ends of each segment, and dots from
// its end, as Windows does with file names and Spring's AntPathMatcher with tokens. The $ of a
// regular expression matches before a last line feed (Starlette).
func trimSegments(p string) string {
	return mapSegments(p, func(segment string) string {
		if segment == "." || segment == ".." {
			return segment
		}

		for segment != "" && isEdge(segment[len(segment)-1]) {
			segment = segment[:len(segment)-1]
		}

		return strings.TrimLeftFunc(segment, isBlank)
	})
}

// removeLineEnds removes tabs and line ends, as URL parsers do at any place (WHATWG URL, "basic URL
// parser", step 3).
func removeLineEnds(p string) string { return lineEnds.Replace(p) }

var lineEnds = strings.NewReplacer("\t", "", "\n", "", "\r", "")

// isBlank reports whether a character is a blank or a control character.
func isBlank(r rune) bool { return r <= ' ' || r == 0x7f }

// mapSegments replaces each segment of a path.
func mapSegments(p string, replace func(segment string) string) string {
	b := make([]byte, 0, len(p))
	for more := true; more; {
		var segment string
		segment, p, more = strings.Cut(p, "/")
		b = append(b, replace(segment)...)
		if more {
			b = append(b, '/')
		}
	}

	return string(b)
}

// pathInfo returns the part of a path after the first script in it, which the script gets as its
// path (PATH_INFO, RFC 3875 section 4.1.5).
func pathInfo(p string) string {
	if at, found := findScript(p); found {
		return p[at.end:]
	}
	return p
}

// joinedPathInfo returns the path info if no slash ends the name of the script. Slim and Symfony
// remove the name from the path as a string, so that "/index.phporders" becomes "/orders".
func joinedPathInfo(p string) string {
	if at, found := findScript(p); found && at.suffix < at.end {
		return "/" + p[at.suffix:]
	}
	return p
}

// removeScript returns a path without the name of the first script in it, as front controllers in a
// folder read it.
func removeScript(p string) string {
	if at, found := findScript(p); found {
		return p[:at.folder] + p[at.end:]
	}
	return p
}

// removeJoinedScript is removeScript for a script whose name no slash ends: "/app/index.phporders"
// becomes "/app/orders".
func removeJoinedScript(p string) string {
	if at, found := findScript(p); found && at.suffix < at.end {
		return p[:at.folder] + "/" + p[at.suffix:]
	}
	return p
}

// scriptSuffixes are the suffixes of files that servers run with the rest of the path.
var scriptSuffixes = [...]string{".php", ".phtml", ".phar", ".cgi", ".fcgi", ".pl", ".py", ".rb", ".asp", ".aspx", ".ashx", ".asmx", ".svc", ".jsp"}

// scriptName is the place of a script's name in a path, as indexes. In "/app/index.phporders/7",
// the segment begins with the slash at folder, the suffix .php ends at suffix, and the segment at
// end.
type scriptName struct{ folder, suffix, end int }

// findScript finds the first segment that names a script: one that contains .php, or one that ends
// with another suffix and is not the last.
func findScript(p string) (at scriptName, found bool) {
	for at.folder < len(p) { // for each segment, with the slash before it
		at.end = len(p)
		if next := strings.IndexByte(p[at.folder+1:], '/'); next >= 0 {
			at.end = at.folder + 1 + next
		}

		segment := p[at.folder:at.end]
		for i := range len(segment) {
			rest := segment[i:]
			if len(rest) >= len(".php") && rest[0] == '.' && strings.EqualFold(rest[:len(".php")], ".php") {
				at.suffix = at.folder + i + len(".php")
				return at, true
			}
		}

		dot := strings.LastIndexByte(segment, '.')
		isSuffix := func(known string) bool { return strings.EqualFold(segment[dot:], known) }
		isLast := at.end == len(p)
		if dot >= 0 && !isLast && slices.ContainsFunc(scriptSuffixes[:], isSuffix) {
			at.suffix = at.end
			return at, true
		}

		at.folder = at.end
	}

	return at, false
}

// upTo returns the part of a path before the first end, a character at which some server ends
// paths.
func upTo(p string, end byte) string {
	if i := strings.IndexByte(p, end); i >= 0 {
		return p[:i]
	}
	return p
}

// removeAuthority returns the path for a server that reads it as a network-path reference (RFC 3986
// section 4.2), possibly with more than two slashes (WHATWG URL, "special authority ignore slashes
// state").
func removeAuthority(p string) string {
	if !strings.HasPrefix(p, "//") {
		return p
	}

	rest := strings.TrimLeft(p, "/")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}

	return "/"
}

// mergeSlashes returns a path with one slash in the place of several, and with a slash at the
// beginning.
func mergeSlashes(p string) string {
	if p == "" || p[0] != '/' {
		return "/" + p
	}
	if !strings.Contains(p, "//") {
		return p
	}

	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		if p[i] != '/' || i == 0 || p[i-1] != '/' {
			b = append(b, p[i])
		}
	}

	return string(b)
}

// resolveDots removes dot segments (RFC 3986 section 5.2.4).
func resolveDots(p string) string {
	if !strings.Contains(p, "/.") {
		return p
	}

	out := make([]string, 0, 16) // the segments that are left; few paths have more
	segments := strings.Split(p, "/")[1:]
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last { // what is left ends with a slash
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}

	return "/" + strings.Join(out, "/")
}
