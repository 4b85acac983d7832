package graphql

import "bytes"

// A token is the kind of a lexical token. A punctuator is its own kind.
type token byte

const (
	end     token = 0   // of the document
	invalid token = '?' // lexer.rule holds the reason
	name    token = 'a'
	number  token = '0'
	text    token = '"' // string or block string
	spread  token = '.' // ...
)

// A lexer reads the tokens of a document (GraphQL specification, September 2025, section 2.1) and
// as much of the grammar as is needed to find the kind of each operation: the definitions at the
// top level. Within brackets it only checks that they are balanced.
//
// Text that is not a token is RuleAmbiguous, since some lexer accepts it as one: a string that
// contains a line end, 01, an escape that the specification does not have. Tokens that are out of
// place are RuleSyntax, unless some parser accepts them.
type lexer struct {
	src      []byte
	pos      int
	name     []byte // of the last name token
	rule     Rule   // why the last token is invalid
	budget   int    // tokens left
	maxDepth int
	strict   bool             // refuse what another lexer may read differently
	stack    [MaxNesting]byte // the closing brackets that group expects
}

// fail records why the token is invalid.
func (l *lexer) fail(r Rule) token {
	l.rule = r
	return invalid
}

// unexpected returns the rule for a token that the grammar does not allow where it stands.
func (l *lexer) unexpected(t token) Rule {
	if t == invalid {
		return l.rule
	}
	return RuleSyntax
}

// document reads the whole document, one definition at a time.
func (l *lexer) document() Rule {
	hasOperation := false
	for {
		t := l.next()
		described := t == text
		if described {
			t = l.next()
		}

		switch {
		case t == end && !described:
			if !hasOperation {
				return RuleNoOperation
			}
			return ""
		case t == '{':
			if described { // not in the grammar, but graph-gophers accepts it
				return RuleAmbiguous
			}
			hasOperation = true
		case t == name:
			if string(l.name) == "query" {
				hasOperation = true
			}
			var rule Rule
			if t, rule = l.definition(); rule != "" {
				return rule
			}
		}

		if t != '{' {
			return l.unexpected(t)
		}
		if t = l.group('{'); t != '}' {
			return l.rule
		}
	}
}

// definition reads the rest of a definition whose keyword was just read, up to its selection set.
// It returns the token that follows, or the rule that refuses the definition.
func (l *lexer) definition() (t token, _ Rule) {
	switch string(l.name) {
	case "query":
		if t = l.next(); t == name {
			t = l.next()
		}
		if t == '(' {
			if t = l.group('('); t == ')' {
				t = l.next()
			}
		}
	case "fragment":
		if !l.fragment() {
			return invalid, l.unexpected(invalid)
		}
		t = l.next()
	case "mutation":
		return invalid, RuleMutation
	case "subscription":
		return invalid, RuleSubscription
	case "schema", "scalar", "type", "interface", "union", "enum", "input", "directive", "extend":
		return invalid, RuleTypeSystem
	default:
		return invalid, RuleSyntax
	}

	for t == '@' {
		if t = l.next(); t != name {
			return invalid, l.unexpected(t)
		}
		if t = l.next(); t == '(' {
			if t = l.group('('); t == ')' {
				t = l.next()
			}
		}
	}

	return t, ""
}

// fragment reads `Name on Type`. The name must not be `on`.
func (l *lexer) fragment() bool {
	l.rule = RuleSyntax
	return l.next() == name && string(l.name) != "on" &&
		l.next() == name && string(l.name) == "on" &&
		l.next() == name
}

// group reads up to the bracket that closes open, which was just read, and returns it.
func (l *lexer) group(open byte) token {
	depth := 0
	c := open

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
			case end:
				return l.fail(RuleSyntax)
			case invalid:
				return invalid
			}
		}
	}
}

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
			return name
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
			return spread
		case k&digit != 0 || c == '-':
			l.pos = i
			return l.number()
		default:
			return l.fail(RuleAmbiguous)
		}
	}

	l.pos = i
	return end
}

// number reads an IntValue or a FloatValue. Neither may be followed by a letter or a dot
// (specification, section 2.9.1).
func (l *lexer) number() token {
	n := numeral(l.src[l.pos:])
	l.pos += n

	if n == 0 || l.pos < len(l.src) && (l.src[l.pos] == '.' || class[l.src[l.pos]]&nameStart != 0) {
		return l.fail(RuleAmbiguous)
	}
	return number
}

// string reads the rest of a string after its opening quote.
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
			return text
		case '\\':
			n := escape(src[i:])
			if n == 0 {
				return l.fail(RuleAmbiguous)
			}
			// A lexer from before September 2025 takes the next four bytes, whatever they are.
			if l.strict && n != 2 && src[i+2] == '{' {
				return l.fail(RuleAmbiguous)
			}
			i += n - 1
		case '\n', '\r': // graphql-ruby reads on
			return l.fail(RuleAmbiguous)
		}
	}

	return l.fail(RuleSyntax)
}

// escape returns the length of the escape sequence that s begins with, or 0.
func escape(s []byte) int {
	if len(s) < 2 {
		return 0
	}

	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		i := 2
		if i < len(s) && s[i] == '{' {
			for i++; i < len(s) && class[s[i]]&hexDigit != 0; i++ {
			}
			if i > 3 && i < len(s) && s[i] == '}' {
				return i + 1
			}
			return 0
		}

		for ; i < 6; i++ {
			if i == len(s) || class[s[i]]&hexDigit == 0 {
				return 0
			}
		}
		return 6
	}

	return 0
}

// block reads the rest of a block string after its opening quotes.
func (l *lexer) block() token {
	src, start := l.src, l.pos

	for i := start; ; {
		n := bytes.IndexByte(src[i:], '"')
		switch {
		case n < 0 && i > start:
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
			return text
		default:
			i++
		}
	}
}
