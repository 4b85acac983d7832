package graphql

// Classes of bytes, as flags.
const (
	ignored   = 1 << iota // GraphQL's insignificant ASCII: white space, line ends, commas
	nameStart             // [A-Za-z_]
	digit                 // [0-9]
	hexDigit              // [0-9A-Fa-f]
	punct                 // a GraphQL token of one byte
	suspect               // a byte that the function ambiguous must examine
	special               // ends the plain run of a JSON string: quote, backslash, control characters
)

// class holds the classes of each byte.
var class = func() (t [256]byte) {
	// set adds the flags to the bytes in a range, both ends included.
	set := func(flag byte, from, to int) {
		for c := from; c <= to; c++ {
			t[c] |= flag
		}
	}

	for _, c := range " \t\n\r," {
		set(ignored, int(c), int(c))
	}
	set(nameStart, 'A', 'Z')
	set(nameStart, 'a', 'z')
	set(nameStart, '_', '_')
	set(digit|hexDigit, '0', '9')
	set(hexDigit, 'A', 'F')
	set(hexDigit, 'a', 'f')
	for _, c := range "!$&():=@[]{|}" {
		set(punct, int(c), int(c))
	}

	set(suspect|special, 0, 0x1F)
	t['\t'] &^= suspect // of the control characters, a tab and a line feed are read alike everywhere
	t['\n'] &^= suspect
	set(suspect, 0x7F, 0x7F)
	// The first bytes, in UTF-8, of what servers read differently: C2 of the control characters
	// from U+0080 on, E2 of the line ends U+2028 and U+2029, EF of the byte order mark U+FEFF.
	for _, c := range []int{0xC2, 0xE2, 0xEF} {
		set(suspect, c, c)
	}

	set(special, '"', '"')
	set(special, '\\', '\\')
	return t
}()

// lower returns the lower case of an ASCII letter, and any other byte as it is.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// equalASCII reports whether s equals want, ignoring the case of ASCII letters. The letters of want
// must be in lower case.
func equalASCII(s, want string) bool {
	if len(s) != len(want) {
		return false
	}

	for i := range len(s) {
		if lower(s[i]) != want[i] {
			return false
		}
	}
	return true
}

// hexValue returns the value of a hexadecimal digit. In ASCII, '0' to '9' are 0x30 to 0x39, 'A' to
// 'F' are 0x41 to 0x46, and 'a' to 'f' are 0x61 to 0x66.
func hexValue(c byte) byte { return c&0xF + c>>6*9 }

// percentAt decodes the percent escape at s[i]; ok reports whether there is one.
func percentAt[T string | []byte](s T, i int) (c byte, ok bool) {
	if i+2 >= len(s) || s[i] != '%' || class[s[i+1]]&class[s[i+2]]&hexDigit == 0 {
		return 0, false
	}
	return hexValue(s[i+1])<<4 | hexValue(s[i+2]), true
}

// HexByte decodes the two hexadecimal digits that s begins with; ok reports whether it does. It is
// exported for package maintenance, which decodes paths.
func HexByte(s string) (c byte, ok bool) {
	if len(s) < 2 || class[s[0]]&class[s[1]]&hexDigit == 0 {
		return 0, false
	}
	return hexValue(s[0])<<4 | hexValue(s[1]), true
}

// numeral returns the length of the number that src begins with, or 0. The syntax of numbers is the
// same in JSON and in GraphQL.
func numeral(src []byte) int {
	i := 0
	if len(src) > 0 && src[0] == '-' {
		i++
	}

	first := i // the first digit
	i = digits(src, i)
	leadingZero := i > first+1 && src[first] == '0'
	if i == first || leadingZero {
		return 0
	}

	if i < len(src) && src[i] == '.' {
		first = i + 1
		i = digits(src, first)
		if i == first {
			return 0
		}
	}

	if i < len(src) && (src[i] == 'e' || src[i] == 'E') {
		i++
		if i < len(src) && (src[i] == '+' || src[i] == '-') {
			i++
		}

		first = i
		i = digits(src, first)
		if i == first {
			return 0
		}
	}
	return i
}

// digits returns the index of the first byte from i on that is not a digit, or len(src).
func digits(src []byte, i int) int {
	for i < len(src) && class[src[i]]&digit != 0 {
		i++
	}
	return i
}
