package maintenance

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// A traits is what a path holds that some server reads in another way.
type traits uint16

const (
	hasEscape      traits = 1 << iota // a percent sign
	hasSlashEscape                    // an escape that may be of / or \
	hasBackslash
	hasSemicolon
	hasEnd         // a character at which some server ends the path
	hasEmpty       // an empty segment, but for the last, or no slash at the beginning
	hasDots        // a segment that may be . or ..
	hasHighBytes   // bytes beyond ASCII
	hasEdges       // blanks, control characters or dots at the edge of a segment
	hasScript      // .php, or a segment, not the last, with a dot
	leadingSlashes // two slashes at the beginning
	hasLineEnds    // a tab or the end of a line
)

// pathWays are the ways in which servers turn a path into the one that they look up.
// Some servers go several of these ways, in any order and more than once. A way is
// gone where the path has one of its traits.
var pathWays = [...]struct {
	name  string // its row in docs/read-only.md
	where traits
	read  func(string) string
}{
	{"percent-decoding", hasEscape, decoded},
	{"percent-decoding in segments", hasSlashEscape, decodedInSegments},
	{"overlong UTF-8", hasHighBytes, overlong},
	{"backslashes", hasBackslash, backslashed},
	{"path parameters", hasSemicolon, withoutParams},
	{"empty segments", hasEmpty, merged},
	{"network-path reference", leadingSlashes, withoutAuthority},
	{"dot segments", hasDots, resolved},
	{"format suffix as a segment", hasDots, withoutSuffixSegment},
	{"blanks and dots at the edges", hasEdges, trimmedSegments},
	{"tabs and line ends", hasLineEnds, withoutLineEnds},
	{"path info", hasScript, pathInfo},
	{"path info without a slash", hasScript, joinedPathInfo},
	{"path under the script's folder", hasScript, withoutScript},
	{"path under the script's folder without a slash", hasScript, withoutJoinedScript},
	{"end at #", hasEnd, func(p string) string { return upTo(p, '#') }},
	{"end at ?", hasEnd, func(p string) string { return upTo(p, '?') }},
	{"end at ;", hasSemicolon, func(p string) string { return upTo(p, ';') }},
	{"end at NUL", hasEnd, func(p string) string { return upTo(p, 0) }},
}

// follow adds what the ways make of each reading until they make nothing new.
func (ways *readings) follow() {
	work := 0
	for i := 0; i < len(ways.paths) && !ways.anyPath; i++ {
		path := ways.paths[i]
		if work += len(path); len(path) > maxReadPath || work > maxReadingWork {
			ways.anyPath = true
			return
		}

		ways.cutPrefixes(path)
		held := traitsOf(path)
		if held&hasScript != 0 {
			if _, found := script(path); !found {
				held &^= hasScript
			}
		}
		if held&leadingSlashes != 0 {
			// A URL parser takes the host from there, too.
			host, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
			ways.readHost(host)
		}
		if held != 0 && work+len(path) > maxReadingWork {
			ways.anyPath = true // one more reading of this length would be too much
			return
		}
		for _, way := range pathWays {
			if held&way.where != 0 {
				ways.add(way.read(path))
			}
		}
	}
}

// traitsOf reads a path once, so that an ordinary one needs no more than that.
func traitsOf(path string) (held traits) {
	if path == "" || path[0] != '/' {
		held |= hasEmpty
	}
	if strings.HasPrefix(path, "//") {
		held |= leadingSlashes
	}

	last := byte('/') // the character before
	dot := false      // in this segment
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '/':
			if i > 0 && last == '/' {
				held |= hasEmpty
			}
			if last <= ' ' || last == 0x7f || last == '.' {
				held |= hasEdges
			}
			if dot {
				held |= hasScript
			}
			dot = false
		case c == '.':
			dot = true
			if last == '/' {
				held |= hasDots
			}
			if i+2 < len(path) && path[i+1]|0x20 == 'p' && path[i+2]|0x20 == 'h' {
				held |= hasScript
			}
		case c == '%':
			held |= hasEscape
			if escaped, size := escape(path[i:]); size > 0 && (escaped == '/' || escaped == '\\') {
				held |= hasSlashEscape
			}
		case c == '\\':
			held |= hasBackslash
		case c == ';':
			held |= hasSemicolon
		case c == '#' || c == '?':
			held |= hasEnd
		case c <= ' ' || c == 0x7f:
			if c == 0 {
				held |= hasEnd
			}
			if c == '\t' || c == '\n' || c == '\r' {
				held |= hasLineEnds
			}
			if last == '/' {
				held |= hasEdges
			}
		case c >= 0x80:
			held |= hasHighBytes
		}
		last = c
	}
	if last <= ' ' || last == 0x7f || last == '.' {
		held |= hasEdges
	}
	return held
}

// plain reports whether every server reads a path alike, but for letter case, format
// suffixes and scripts: what a rule may be written with.
func plain(path string) bool {
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

// decoded undoes one level of percent-encoding, and IIS's %uXXXX where it hides ASCII.
func decoded(p string) string { return unescape(p, "") }

// decodedInSegments leaves encoded slashes, as servers do that split a path before
// they decode it (RFC 3986 section 2.2), so that "a%2fb/%2e%2e" is one segment up.
func decodedInSegments(p string) string { return unescape(p, `/\`) }

func unescape(p, except string) string {
	if strings.IndexByte(p, '%') < 0 {
		return p
	}
	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		c, size := p[i], 1
		if c == '%' {
			if d, n := escape(p[i:]); n > 0 && strings.IndexByte(except, d) < 0 {
				c, size = d, n
			}
		}
		b = append(b, c)
		i += size - 1
	}
	return string(b)
}

// escape decodes the %XX or %u00XX that s begins with. A size of 0 means that s begins
// with neither.
func escape(s string) (c byte, size int) {
	digits := 1
	if len(s) > 4 && s[1]|0x20 == 'u' && s[2:4] == "00" {
		digits = 4
	}
	if len(s) < digits+2 {
		return 0, 0
	}
	hi, lo := unhex(s[digits]), unhex(s[digits+1])
	if hi < 0 || lo < 0 {
		return 0, 0
	}
	return byte(hi<<4 | lo), digits + 2
}

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// overlong undoes forms of ASCII characters that UTF-8 forbids (RFC 3629 section 3)
// and lenient decoders accept: C0 AF, E0 80 AF and F0 80 80 AF for "/".
func overlong(p string) string {
	if utf8.ValidString(p) {
		return p
	}
	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		lead, last := p[i], i // last is where the form's last byte is
		switch {
		case lead|1 == 0xc1:
			last = i + 1
		case strings.HasPrefix(p[i:], "\xe0\x80"), strings.HasPrefix(p[i:], "\xe0\x81"):
			lead, last = p[i+1], i+2
		case strings.HasPrefix(p[i:], "\xf0\x80\x80"), strings.HasPrefix(p[i:], "\xf0\x80\x81"):
			lead, last = p[i+2], i+3
		}
		if last > i && last < len(p) && p[last]&0xc0 == 0x80 {
			b = append(b, lead&1<<6|p[last]&0x3f)
			i = last
		} else {
			b = append(b, p[i])
		}
	}
	return string(b)
}

func backslashed(p string) string { return strings.ReplaceAll(p, `\`, "/") }

// withoutParams drops ";…" from every segment (RFC 3986 section 3.3).
func withoutParams(p string) string {
	return inSegments(p, func(segment string) string { return upTo(segment, ';') })
}

// withoutSuffixSegment drops a last segment that is only a format suffix: what a server
// that drops suffixes makes of "/x/.json" leads to another path with one. All other
// suffixes are seen where paths are compared.
func withoutSuffixSegment(p string) string {
	bare := strings.TrimRight(p, "/")
	slash := strings.LastIndexByte(bare, '/')
	if last := bare[slash+1:]; strings.HasPrefix(last, ".") && strings.Trim(last, ".") != "" {
		return bare[:slash+1]
	}
	return p
}

// trimmedSegments drops blanks and control characters from both ends of each segment,
// and dots from its end, as Windows does with file names and Spring's AntPathMatcher
// with tokens. A regular expression's $ matches before a last line feed (Starlette).
func trimmedSegments(p string) string {
	return inSegments(p, func(segment string) string {
		if segment == "." || segment == ".." {
			return segment
		}
		for segment != "" && (segment[len(segment)-1] == '.' || isBlank(rune(segment[len(segment)-1]))) {
			segment = segment[:len(segment)-1]
		}
		return strings.TrimLeftFunc(segment, isBlank)
	})
}

// withoutLineEnds drops tabs and line ends, as URL parsers do wherever they stand (WHATWG
// URL, "basic URL parser", step 3).
func withoutLineEnds(p string) string { return lineEnds.Replace(p) }

var lineEnds = strings.NewReplacer("\t", "", "\n", "", "\r", "")

// isBlank reports whether a character is a blank or a control character.
func isBlank(r rune) bool { return r <= ' ' || r == 0x7f }

// inSegments replaces each segment of a path.
func inSegments(p string, replace func(segment string) string) string {
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

// pathInfo returns what stands behind the first script in a path, which the script
// gets as its path (PATH_INFO, RFC 3875 section 4.1.5).
func pathInfo(p string) string {
	if at, found := script(p); found {
		return p[at.end:]
	}
	return p
}

// joinedPathInfo does so where no slash ends the script's name: Slim and Symfony take
// the name off the path as a string, so that "/index.phporders" is "/orders" to them.
func joinedPathInfo(p string) string {
	if at, found := script(p); found && at.suffix < at.end {
		return "/" + p[at.suffix:]
	}
	return p
}

// withoutScript returns a path without the name of the first script in it, as front
// controllers do that stand in a folder.
func withoutScript(p string) string {
	if at, found := script(p); found {
		return p[:at.folder] + p[at.end:]
	}
	return p
}

// withoutJoinedScript does so where no slash ends the script's name.
func withoutJoinedScript(p string) string {
	if at, found := script(p); found && at.suffix < at.end {
		return p[:at.folder] + "/" + p[at.suffix:]
	}
	return p
}

// scriptSuffixes are the suffixes of files that servers run and hand the rest of the
// path to.
var scriptSuffixes = [...]string{".php", ".phtml", ".phar", ".cgi", ".fcgi", ".pl", ".py", ".rb", ".asp", ".aspx", ".ashx", ".asmx", ".svc", ".jsp"}

// scriptName is where a script's name stands in a path: folder is where its segment
// begins, suffix where its suffix ends, and end where its segment ends.
type scriptName struct{ folder, suffix, end int }

// script finds the first segment that names a script: one with .php in it, or one with
// another suffix at its end that is not the last.
func script(p string) (at scriptName, found bool) {
	for at.folder < len(p) {
		at.end = len(p)
		if next := strings.IndexByte(p[at.folder+1:], '/'); next >= 0 {
			at.end = at.folder + 1 + next
		}

		segment := p[at.folder:at.end]
		for i := range len(segment) {
			if len(segment)-i >= len(".php") && segment[i] == '.' && strings.EqualFold(segment[i:i+len(".php")], ".php") {
				at.suffix = at.folder + i + len(".php")
				return at, true
			}
		}
		if dot := strings.LastIndexByte(segment, '.'); dot >= 0 && at.end < len(p) && slices.ContainsFunc(scriptSuffixes[:], func(s string) bool { return strings.EqualFold(segment[dot:], s) }) {
			at.suffix = at.end
			return at, true
		}
		at.folder = at.end
	}
	return at, false
}

// upTo returns a path up to a character at which some server ends it.
func upTo(p string, end byte) string {
	if i := strings.IndexByte(p, end); i >= 0 {
		return p[:i]
	}
	return p
}

// withoutAuthority returns what a server sees that takes the beginning for a
// network-path reference (RFC 3986 section 4.2), also behind more than two slashes
// (WHATWG URL, "special authority ignore slashes state").
func withoutAuthority(p string) string {
	if !strings.HasPrefix(p, "//") {
		return p
	}
	rest := strings.TrimLeft(p, "/")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return "/"
}

// merged returns a path that begins with a slash and has no empty segments.
func merged(p string) string {
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

// resolved removes dot segments (RFC 3986 section 5.2.4).
func resolved(p string) string {
	if !strings.Contains(p, "/.") {
		return p
	}
	out := make([]string, 0, 16)
	segments := strings.Split(p, "/")[1:]
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}
