package conventions

import (
	"fmt"
	"go/scanner"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// wordings are not used in comments, messages and documentation, since readers had to translate
// them. Each names what to write instead.
var wordings = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`(?i)\btells? (whether|if|that)\b`), `"reports whether"`},
	{regexp.MustCompile(`(?i)\b(is|are|was|were) no [a-z]`), `"is not a …", "must be a …" or "there is no …" with a subject`},
	{regexp.MustCompile(`(?i)(, (and |or )?|; |[a-z] )else( ?[(.,;:]| (a|an|the|it|they|this|would|is|are|one|plain)\b)`), `"otherwise"`},
	{regexp.MustCompile(`(?i)\b(who|whoever|whatever|what) (says|asks|takes|sends|speaks|wants|gets|has) (nothing|anything|none|it)\b`), `"a client that …"`},
	{regexp.MustCompile(`(?i)\bwhoever\b`), `the person or the program that is meant`},
	{regexp.MustCompile(`(?i)\bin vain\b`), `"timed out" or "failed"`},
	{regexp.MustCompile(`(?i)\bno (more|longer)[.,;:]`), `"no longer" before the verb`},
	{regexp.MustCompile(`(?i)\bnot (as|what) it should be\b`), `what is wrong`},
	{regexp.MustCompile(`(?i)\bby (which|whom) (it|they|the|a|an)\b`), `a sentence of its own`},
	{regexp.MustCompile(`(?i)\banew\b`), `"again"`},
	{regexp.MustCompile(`(?i)\bat the clock\b`), `"wall-clock time"`},
	{regexp.MustCompile(`(?i)\b(which|that|who) so (can|is|are|does|has)\b`), `"and therefore"`},
	{regexp.MustCompile(`(?i)\bnobody's|everybody's\b`), `the thing that is meant`},
	{regexp.MustCompile(`(?i)\bmust ?show ?[0-9]`), `the behaviour`},
}

// fine are words in which a pattern would find what is not meant.
var fine = regexp.MustCompile(`(?i)\b((some|any|no|every)?(one|body|thing|where|what|who|nothing|all) else|there (is|are|was|were) no)\b`)

// unplain returns what is to be changed about a text.
func unplain(text string) (problems []string) {
	text = fine.ReplaceAllString(text, "")
	for _, w := range wordings {
		if found := w.pattern.FindString(text); found != "" {
			problems = append(problems, fmt.Sprintf("says %q; write %s", strings.TrimSpace(found), w.instead))
		}
	}
	return problems
}

// proseIn returns the text of a file that people read, by line: of a Go file its comments and
// string literals, of any other all of it.
func proseIn(f file) map[int]string {
	prose := map[int]string{}
	if path.Ext(f.name) != ".go" {
		for i, line := range strings.Split(string(f.data), "\n") {
			prose[i+1] = line
		}
		return prose
	}

	fset := token.NewFileSet()
	var s scanner.Scanner
	tokens := fset.AddFile(f.name, -1, len(f.data))
	s.Init(tokens, f.data, nil, scanner.ScanComments)
	for {
		pos, tok, text := s.Scan()
		switch tok {
		case token.EOF:
			return prose
		case token.COMMENT, token.STRING:
			for i, line := range strings.Split(text, "\n") {
				prose[tokens.Line(pos)+i] += " " + line
			}
		}
	}
}

func TestProseUsesPlainWordings(t *testing.T) {
	texts := []string{".go", ".md", ".yaml", ".yml", ".html", ".txtar", ".txt", ".sh", ""}
	for _, f := range files(t, func(name string) bool {
		return slices.Contains(texts, path.Ext(name)) && !strings.Contains(name, "/fuzz/") &&
			!strings.Contains(name, "/recorded/") && name != "e2e/conventions/prose_test.go" && name != "LICENSE"
	}) {
		prose := proseIn(f)
		for line, text := range prose {
			problems := unplain(text)
			for _, problem := range problems {
				t.Errorf("%s:%d %s", f.name, line, problem)
			}

			// A wording may be broken between two lines.
			next := strings.TrimLeft(prose[line+1], " \t/#")
			problems = append(problems, unplain(next)...)
			for _, problem := range unplain(text + " " + next) {
				if !slices.Contains(problems, problem) {
					t.Errorf("%s:%d, across the line end, %s", f.name, line, problem)
				}
			}
		}
	}
}

// maxCommentColumns is how far a comment may reach, with tabs of four columns.
const maxCommentColumns = 100

func TestCommentsFitOneWidth(t *testing.T) {
	for _, f := range goFiles(t) {
		for i, line := range strings.Split(string(f.data), "\n") {
			comment := strings.TrimLeft(line, "\t")
			if !strings.HasPrefix(comment, "//") || strings.HasPrefix(comment, "//go:") || strings.Contains(comment, "://") {
				continue
			}
			if width := 4*(len(line)-len(comment)) + utf8.RuneCountInString(comment); width > maxCommentColumns {
				t.Errorf("%s:%d: the comment reaches column %d; wrap it at %d", f.name, i+1, width, maxCommentColumns)
			}
		}
	}
}

func TestWordingsAreRecognized(t *testing.T) {
	for text, refused := range map[string]bool{
		"ours tells whether only the filter may set it":    true,
		"x reports whether only the filter may set it":     false,
		"192.0.2.300 is no address":                        true,
		"192.0.2.300 is not an address":                    false,
		"JSON if it sent JSON, and plain text else (curl)": true,
		"Who says nothing gets JSON, else the plain text":  true,
		"nothing else, and somebody else":                  false,
		"8 waited in vain":                                 true,
		"the test of must show 4":                          true,
		"if a { b() } else { c() }":                        false,
		"Whoever gets it has it before it is good":         true,
		"the time at the clock on the wall":                true,
		"a client without Accept, or with */*, gets JSON":  false,
	} {
		if got := unplain(text) != nil; got != refused {
			t.Errorf("%q: refused is %v, want %v", text, got, refused)
		}
	}
}
