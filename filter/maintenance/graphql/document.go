package graphql

import (
	"bytes"
	"unicode/utf8"
)

// The keywords of the operations that are not queries. A document without either of them cannot
// have such an operation.
var (
	mutation     = []byte("mutation")
	subscription = []byte("subscription")
)

// Document judges one decoded GraphQL document. It returns "" if the document has at least one
// operation and all its operations are queries, or if it is malformed and no way of reading it
// finds anything but a query in it.
func Document(doc []byte, opt *Options) Rule {
	if opt == nil {
		opt = &defaults
	}

	if !utf8.Valid(doc) {
		return RuleAmbiguous
	}

	return judgeDocument(doc, opt)
}

// judgeDocument judges doc, which must be valid UTF-8.
//
// If doc contains neither keyword, no server's lexer can find one, and the lexer here only enforces
// the limits. Otherwise the lexer is strict: it must read doc as every server does, so anything
// that some server reads differently is refused.
func judgeDocument(doc []byte, opt *Options) Rule {
	if bytes.IndexByte(doc, 0) >= 0 {
		return RuleAmbiguous // some servers end the document there
	}

	strict := bytes.Contains(doc, mutation) || bytes.Contains(doc, subscription)
	if strict && ambiguous(doc) {
		return RuleAmbiguous
	}

	rule := lex(doc, strict, opt)
	switch rule {
	case RuleSyntax, RuleAmbiguous, RuleNoOperation:
		return judgeMalformed(doc, rule, strict, opt)
	}
	return rule
}

// judgeMalformed judges a document that is malformed, or has no operation, as the lexer here reads
// it: rule is what the lexer returned, and strict how it has read. Another server may read the
// document differently, or it may be the name of a stored document.
func judgeMalformed(doc []byte, rule Rule, strict bool, opt *Options) Rule {
	switch {
	case identifier(doc):
		return RuleDocumentID
	case strict:
		return rule
	case rule != RuleNoOperation && inert(doc, opt):
		return ""
	case rule != RuleAmbiguous && (ambiguous(doc) || lex(doc, true, opt) == RuleAmbiguous):
		return RuleAmbiguous
	}
	return rule
}

// lex reads doc and returns the rule that refuses it, or "". With strict, it also refuses what
// another lexer may read differently.
func lex(doc []byte, strict bool, opt *Options) Rule {
	l := lexer{src: doc, budget: opt.maxTokens(), maxDepth: opt.maxDepth(), strict: strict}
	return l.document()
}

// identifier reports whether doc may be the name of a document that the server stores, and not a
// document itself. Mercurius accepts such a name as "query" if the request also has "persisted".
func identifier(doc []byte) bool {
	return len(doc) > 0 && !bytes.ContainsAny(doc, " \t\r\n,{}()\"#")
}

// inert reports whether a malformed document may pass, so that the server reports what is wrong
// with it.
//
// The document must have a selection set, since without one it may be the name of a stored
// document. It must consist only of names, digits, white space and punctuation, because something
// could hide in a string, a comment or an escape. It must not contain either keyword, in any case,
// even for a reader that drops everything between the letters. Since the lexer did not read the
// document to its end, its bytes are counted against the limit of tokens and its opening brackets
// against the limit of depth.
func inert(doc []byte, opt *Options) bool {
	if len(doc) > opt.maxTokens() {
		return false
	}

	hasSelectionSet, levels := false, opt.maxDepth()
	for i, c := range doc {
		switch c {
		case '{':
			hasSelectionSet = true
			levels--
		case '(', '[':
			levels--
		case 'm', 'M':
			if spells(doc[i:], "mutation") {
				return false
			}
		case 's', 'S':
			if spells(doc[i:], "subscription") {
				return false
			}
		case '&': // punctuation, but it may begin a character reference of HTML
			return false
		case '.': // of a number or a spread
		default:
			if class[c]&(ignored|nameStart|digit|punct) == 0 {
				return false
			}
		}
	}

	return hasSelectionSet && levels >= 0
}

// spells reports whether the letters of s, in any case and with anything between them, begin with
// word. The word must be in lower case.
func spells(s []byte, word string) bool {
	matched := 0
	for _, c := range s {
		c = lower(c)
		if c < 'a' || c > 'z' {
			continue
		}

		if c != word[matched] {
			return false
		}
		matched++
		if matched == len(word) {
			return true
		}
	}

	return false
}

// ambiguous reports whether doc contains a character that ends a line, a comment or a document for
// some servers and not for others: a control character (a carriage return counts unless a line feed
// follows it), U+2028, U+2029 or U+FEFF. Absinthe ends a comment at U+2028, graphql-dotnet and old
// versions of graphql-js at any control character, others only at a line feed.
func ambiguous(doc []byte) bool {
	for i := 0; i < len(doc); i++ {
		c := doc[i]
		switch {
		case class[c]&suspect == 0:
		case c == '\r':
			if i+1 == len(doc) || doc[i+1] != '\n' {
				return true
			}
		case c < utf8.RuneSelf: // any other control character
			return true
		default:
			r, size := utf8.DecodeRune(doc[i:])
			if r < 0xA0 || r == 0x2028 || r == 0x2029 || r == 0xFEFF { // below U+00A0: U+0080 to U+009F
				return true
			}
			i += size - 1
		}
	}
	return false
}
