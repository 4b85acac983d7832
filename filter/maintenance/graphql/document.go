package graphql

import (
	"bytes"
	"unicode/utf8"
)

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

	return document(doc, opt)
}

// document judges doc, which must be valid UTF-8.
//
// If doc contains neither keyword, no server's lexer can find one, and the lexer here only enforces
// the limits. Otherwise the lexer must read doc as every server does, so anything that some server
// reads differently is refused.
func document(doc []byte, opt *Options) Rule {
	if bytes.IndexByte(doc, 0) >= 0 {
		return RuleAmbiguous
	}

	strict := bytes.Contains(doc, mutation) || bytes.Contains(doc, subscription)
	if strict && ambiguous(doc) {
		return RuleAmbiguous
	}

	rule := lex(doc, strict, opt)
	switch {
	case rule != RuleSyntax && rule != RuleAmbiguous && rule != RuleNoOperation:
		return rule
	case identifier(doc):
		return RuleDocumentID
	case rule != RuleNoOperation && !strict && inert(doc, opt):
		return ""
	case rule != RuleAmbiguous && !strict && (ambiguous(doc) || lex(doc, true, opt) == RuleAmbiguous):
		// It is malformed as read here, but another server may read it differently.
		return RuleAmbiguous
	}
	return rule
}

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

	set, depth := false, opt.maxDepth()
	for i, c := range doc {
		switch c {
		case '{':
			set = true
			depth--
		case '(', '[':
			depth--
		case 'm', 'M':
			if spells(doc[i:], "mutation") {
				return false
			}
		case 's', 'S':
			if spells(doc[i:], "subscription") {
				return false
			}
		case '&':
			return false
		case '.':
		default:
			if class[c]&(ignored|nameStart|digit|punct) == 0 {
				return false
			}
		}
	}

	return set && depth >= 0
}

// spells reports whether the letters of s, in any case and with anything between them, begin with
// word. The word must be in lower case.
func spells(s []byte, word string) bool {
	n := 0

	for _, c := range s {
		switch c = lower(c); {
		case c < 'a' || c > 'z':
		case c != word[n]:
			return false
		default:
			if n++; n == len(word) {
				return true
			}
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
		switch c := doc[i]; {
		case class[c]&suspect == 0:
		case c == '\r':
			if i+1 == len(doc) || doc[i+1] != '\n' {
				return true
			}
		case c < utf8.RuneSelf:
			return true
		default:
			switch r, n := utf8.DecodeRune(doc[i:]); {
			case r < 0xA0, r == 0x2028, r == 0x2029, r == 0xFEFF:
				return true
			default:
				i += n - 1
			}
		}
	}
	return false
}
