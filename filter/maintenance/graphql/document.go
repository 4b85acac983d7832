package graphql

import (
	"bytes"
	"unicode/utf8"
)

// Document judges one decoded GraphQL document: "" if all its operations are queries and there is at least one, or if
// it is not well-formed and no reading can find anything but a query in it.
func Document(doc []byte, opt *Options) Rule {
	if opt == nil {
		opt = &defaults
	}
	if !utf8.Valid(doc) {
		return RuleAmbiguous
	}
	return document(doc, opt)
}

// document judges doc, which is valid UTF-8.
//
// Where doc holds neither keyword, no lexer of any server can find one, and ours only keeps the limits. Where it does,
// ours must be the reading of every server, so whatever some server reads differently is refused.
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
		// It is malformed as we read it, and another server may not read it so.
		return RuleAmbiguous
	}
	return rule
}

func lex(doc []byte, strict bool, opt *Options) Rule {
	l := lexer{src: doc, budget: opt.maxTokens(), maxDepth: opt.maxDepth(), strict: strict}
	return l.document()
}

// identifier reports whether doc may be the name of a document that the server stores, instead of a document: Mercurius
// takes such a one as query where "persisted" is beside it.
func identifier(doc []byte) bool {
	return len(doc) > 0 && !bytes.ContainsAny(doc, " \t\r\n,{}()\"#")
}

// inert reports whether a document that is not well-formed may pass, so that the server says what is wrong with it.
// It must have a selection set, so that it is not the name of a stored document, and must be made of nothing but names,
// digits, white space and punctuation: no string, comment or escape, in which something could hide. Neither keyword may
// be in it, in any case, even when a reader leaves out all that stands between the letters. Since it was not read to its
// end, its bytes are counted as tokens and its brackets as depth.
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

// spells reports whether the letters of s begin with word, which is in lower case, whatever is between them.
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

var (
	mutation     = []byte("mutation")
	subscription = []byte("subscription")
)

// ambiguous reports characters that end a line, a comment or a document for some servers and not for others: control
// characters (a carriage return only within CRLF), U+2028, U+2029 and U+FEFF. Absinthe ends a comment at U+2028,
// graphql-dotnet and old graphql-js at any control character, others at a line feed only.
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
