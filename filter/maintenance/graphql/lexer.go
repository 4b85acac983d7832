package graphql

import "bytes"

// This file finds out which operations a GraphQL document has. document.go decides what to make of
// the answer, and class and numeral are in bytes.go.

// A token is the kind of a lexical token. A punctuator, such as '{', is its own kind.
type token byte

const (
	tokenEnd     token = 0   // the end of the document
	tokenInvalid token = '?' // lexer.rule holds the reason
	tokenName    token = 'a'
	tokenNumber  token = '0'
	tokenText    token = '"' // a string or a block string
	tokenSpread  token = '.' // ...
)

// A lexer reads the tokens of a document (GraphQL specification, September 2025, section 2.1) and
// as much of the grammar as is needed to find the kind of each operation: the definitions at the
// top level. Within brackets it only checks that they are balanced.
//
// Text that is not a token is RuleAmbiguous, since some lexer accepts it as one: a string that
// contains a line end, 01, an escape that the specification does not have. Tokens that are out of
// place are RuleSyntax, unless some parser accepts them.
//
// A strict lexer also refuses text that is valid, but that the lexer of some server reads in
// another way. document.go asks for it if the word mutation or subscription is in the document.
type lexer struct {
	src      []byte // the document, in valid UTF-8
	pos      int    // in src, after the last token
	name     []byte // the text of the last tokenName
	rule     Rule   // why the last token is tokenInvalid
	budget   int    // how many tokens may follow
	maxDepth int
	strict   bool             // see below
	stack    [MaxNesting]byte // the closing brackets that group expects, innermost last
}

// fail records why a token is invalid, and returns tokenInvalid.
func (l *lexer) fail(r Rule) token {
	l.rule = r
	return tokenInvalid
}

// unexpected returns the rule for a token that the grammar does not allow where it stands.
func (l *lexer) unexpected(t token) Rule {
	if t == tokenInvalid {
		return l.rule
	}
	return RuleSyntax
}

// document reads the whole document, one definition at a time. It returns "" if every operation is
// a query and there is at least one, and otherwise the rule that refuses the document.
func (l *lexer) document() Rule {
	hasOperation := false
	for {
		t := l.next()
		described := t == tokenText // a description, which may stand before a definition
		if described {
			t = l.next()
		}

		switch {
		case t == tokenEnd && !described:
			if !hasOperation {
				return RuleNoOperation
			}
			return ""
		case t == '{': // a query in its short form
			if described { // not in the grammar, but graph-gophers accepts it
				return RuleAmbiguous
			}
			hasOperation = true
		case t == tokenName:
			if string(l.name) == "query" {
				hasOperation = true
			}

			var rule Rule
			t, rule = l.definition()
			if rule != "" {
				return rule
			}
		}

		// Here, t must be the bracket that begins the selection set of the definition.
		if t != '{' {
			return l.unexpected(t)
		}
		if l.group('{') != '}' {
			return l.rule
		}
	}
}

// definition reads the rest of a definition whose keyword was just read, up to its selection set.
// It returns the token that follows, or the rule that refuses the definition.
func (l *lexer) definition() (t token, _ Rule) {
	switch string(l.name) {
	case "query": // Name(…), each of which may be missing
		t = l.next()
		if t == tokenName {
			t = l.next()
		}
		if t == '(' {
			t = l.afterParentheses()
		}
	case "fragment":
		if !l.fragment() {
			return tokenInvalid, l.rule
		}
		t = l.next()
	case "mutation":
		return tokenInvalid, RuleMutation
	case "subscription":
		return tokenInvalid, RuleSubscription
	case "schema", "scalar", "type", "interface", "union", "enum", "input", "directive", "extend":
		return tokenInvalid, RuleTypeSystem
	default:
		return tokenInvalid, RuleSyntax
	}

	for t == '@' { // directives: @name(…)
		t = l.next()
		if t != tokenName {
			return tokenInvalid, l.unexpected(t)
		}

		t = l.next()
		if t == '(' {
			t = l.afterParentheses()
		}
	}

	return t, ""
}

// afterParentheses reads a group in parentheses, of which the first was just read, and returns the
// token after it, or tokenInvalid.
func (l *lexer) afterParentheses() token {
	if l.group('(') != ')' {
		return tokenInvalid
	}
	return l.next()
}

// fragment reads `Name on Type` and reports whether it is there. The name must not be `on`. If it
// is not there, l.rule holds the rule that refuses the document.
func (l *lexer) fragment() bool {
	l.rule = RuleSyntax // an invalid token replaces it
	return l.next() == tokenName && string(l.name) != "on" &&
		l.next() == tokenName && string(l.name) == "on" &&
		l.next() == tokenName
}

// group reads up to the bracket that closes open, which was just read, and returns that bracket. If
// the brackets in between are not balanced or nested too deeply, it returns tokenInvalid.
func (l *lexer) group(open byte) token {
	depth := 0 // the brackets that are open
	c := open  // the bracket that was read last

	for {
		if depth == l.maxDepth {
			return l.fail(RuleLimitDepth)
		}
		l.stack[depth] = closing(c)
		depth++

	within:
		for {
			switch t := l.next(); t {
			case '{', '(', '[':
				c = byte(t)
				break within
			case '}', ')', ']':
				depth--
				if l.stack[depth] != byte(t) {
					return l.fail(RuleSyntax)
				}
				if depth == 0 {
					return t
				}
			case tokenEnd:
				return l.fail(RuleSyntax)
			case tokenInvalid:
				return tokenInvalid
			}
		}
	}
}

// closing returns the bracket that closes open.
func closing(open byte) byte {
	if open == '(' {
		return ')'
	}
	return open + 2 // '[' ']' and '{' '}' in ASCII
}

// next reads one token. It is the inner loop of the package and therefore a single function.
func (l *lexer) next() token {
	src, i := l.src, l.pos

	for i < len(src) {
		c := src[i]
		k := class[c]
		switch {
		case k&ignored != 0:
			i++
			continue
		case c == '#':
			if l.budget--; l.budget < 0 { // a comment counts as a token
				return l.fail(RuleLimitTokens)
			}

			// graphql-go counts a name's end in runes if a comment stands before it, and therefore
			// reads the end of the comment again, as tokens.
			for i++; i < len(src) && src[i] != '\n' && src[i] != '\r'; i++ {
				if l.strict && src[i] >= 0x80 {
					return l.fail(RuleAmbiguous)
				}
			}
			continue
		case c == 0xEF && i+2 < len(src) && src[i+1] == 0xBB && src[i+2] == 0xBF: // U+FEFF is white space
			i += 3
			continue
		}

		if l.budget--; l.budget < 0 {
			return l.fail(RuleLimitTokens)
		}

		switch {
		case k&nameStart != 0:
			start := i
			for i++; i < len(src) && class[src[i]]&(nameStart|digit) != 0; i++ {
			}
			l.name, l.pos = src[start:i], i
			return tokenName
		case k&punct != 0:
			l.pos = i + 1
			return token(c)
		case c == '"':
			l.pos = i + 1
			if i+2 < len(src) && src[i+1] == '"' && src[i+2] == '"' {
				l.pos = i + 3
				return l.block()
			}
			return l.string()
		case c == '.' && i+2 < len(src) && src[i+1] == '.' && src[i+2] == '.':
			l.pos = i + 3
			return tokenSpread
		case k&digit != 0 || c == '-':
			l.pos = i
			return l.number()
		default:
			return l.fail(RuleAmbiguous)
		}
	}

	l.pos = i
	return tokenEnd
}

// number reads an IntValue or a FloatValue. Neither may be followed by a letter or a dot
// (specification, section 2.9.1).
func (l *lexer) number() token {
	n := numeral(l.src[l.pos:])
	l.pos += n

	if n == 0 || l.pos < len(l.src) && (l.src[l.pos] == '.' || class[l.src[l.pos]]&nameStart != 0) {
		return l.fail(RuleAmbiguous)
	}
	return tokenNumber
}

// string reads the rest of a string after its opening quote, and returns tokenText or tokenInvalid.
func (l *lexer) string() token {
	src := l.src

	for i := l.pos; i < len(src); i++ {
		switch src[i] {
		case '"':
			// Lexers that look back one byte for an escaped quote, or ahead for a block string,
			// read this differently.
			if l.strict && (src[i-1] == '\\' || i+1 < len(src) && src[i+1] == '"' && i > l.pos) {
				return l.fail(RuleAmbiguous)
			}
			l.pos = i + 1
			return tokenText
		case '\\':
			n := escape(src[i:])
			if n == 0 {
				return l.fail(RuleAmbiguous)
			}
			// A lexer from before September 2025 takes the next four bytes, whatever they are.
			const shortEscape = 2 // bytes: a backslash and a letter
			if l.strict && n != shortEscape && src[i+2] == '{' {
				return l.fail(RuleAmbiguous)
			}
			i += n - 1
		case '\n', '\r': // graphql-ruby reads on
			return l.fail(RuleAmbiguous)
		}
	}

	return l.fail(RuleSyntax)
}

// escape returns the length of the escape sequence that s begins with, or 0 if the specification
// does not have it.
func escape(s []byte) int {
	if len(s) < 2 {
		return 0
	}

	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		i := 2 // after the backslash and the u
		if i < len(s) && s[i] == '{' {
			for i++; i < len(s) && class[s[i]]&hexDigit != 0; i++ {
			}
			hasDigits := i > len(`\u{`)
			if hasDigits && i < len(s) && s[i] == '}' {
				return i + 1
			}
			return 0
		}

		for ; i < len(`\uXXXX`); i++ {
			if i == len(s) || class[s[i]]&hexDigit == 0 {
				return 0
			}
		}
		return i
	}

	return 0
}

// block reads the rest of a block string after its opening quotes, and returns tokenText or
// tokenInvalid.
func (l *lexer) block() token {
	src, start := l.src, l.pos

	for i := start; ; {
		n := bytes.IndexByte(src[i:], '"')
		switch {
		case n < 0 && i > start: // there was a quote, which some lexer may take for the end
			return l.fail(RuleAmbiguous)
		case n < 0: // no lexer finds an end
			return l.fail(RuleSyntax)
		}

		i += n
		triple := i+2 < len(src) && src[i+1] == '"' && src[i+2] == '"'
		escaped := i > start && src[i-1] == '\\'
		// Servers without block strings read """…""" as three strings, which has the same effect
		// unless another quote is near. graph-gophers does not support \""", and graphql-go
		// corrupts the document at one.
		if l.strict && (!triple || escaped || i+3 < len(src) && src[i+3] == '"') {
			return l.fail(RuleAmbiguous)
		}

		switch {
		case triple && escaped:
			i += 3
		case triple:
			l.pos = i + 3
			return tokenText
		default:
			i++
		}
	}
}
