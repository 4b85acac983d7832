// Package conventions holds the repository's own rules, which its tests check: which package may
// import which, how functions and comments are laid out, and which wordings are not used.
// CONTRIBUTING.md gives the reasons.
package conventions

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Bounds on a function. Lines of a table, which is a composite literal of several lines, do not
// count: a long table is read a row at a time.
const (
	maxFunctionLines    = 70 // from "func" to the closing brace
	maxUnbrokenLines    = 24 // of a body without a blank line
	minBlankPerThousand = 50 // blank lines in all bodies together
)

// A function is the layout of one function in a file.
type function struct {
	File  string
	Line  int
	Name  string
	Lines int // from "func" to the closing brace, without tables
	Body  int // lines between the braces, without tables
	Blank int // of Body
}

func (f function) String() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Name) }

// functions returns the layout of every function that a Go file declares.
func functions(file string, source []byte) (found []function, err error) {
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(source), "\n")
	line := func(p token.Pos) int { return fset.Position(p).Line }

	for _, decl := range parsed.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}

		first, last := line(fn.Body.Lbrace)+1, line(fn.Body.Rbrace)-1
		inTable := tableLines(fn.Body, line)
		f := function{File: file, Line: line(fn.Pos()), Name: fn.Name.Name}
		for n := first; n <= last; n++ {
			if slices.Contains(inTable, n) {
				continue
			}
			f.Body++
			if lines[n-1] == "" {
				f.Blank++
			}
		}
		f.Lines = f.Body + 2
		found = append(found, f)
	}
	return found, nil
}

// tableLines returns the lines within the composite literals and raw strings of a body that span
// more than five lines, without the lines on which they begin and end. A function literal
// within one is code again, and counts.
func tableLines(body *ast.BlockStmt, line func(token.Pos) int) (lines []int) {
	const shortest = 5
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if line(n.Rbrace)-line(n.Lbrace) > shortest {
				for l := line(n.Lbrace) + 1; l < line(n.Rbrace); l++ {
					lines = append(lines, l)
				}
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING && line(n.End())-line(n.Pos()) > shortest {
				for l := line(n.Pos()) + 1; l < line(n.End()); l++ {
					lines = append(lines, l)
				}
			}
		}
		return true
	})
	return lines
}

func TestFunctionsHaveParagraphs(t *testing.T) {
	body, blank := 0, 0
	for _, file := range goFiles(t) {
		declared, err := functions(file.name, file.data)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range declared {
			body, blank = body+f.Body, blank+f.Blank
			if f.Body > maxUnbrokenLines && f.Blank == 0 {
				t.Errorf("%v has %d lines and no blank one: put a blank line between its steps", f, f.Body)
			}
			if f.Lines > maxFunctionLines {
				t.Errorf("%v has %d lines, which are more than %d: split it where a second idea begins", f, f.Lines, maxFunctionLines)
			}
		}
	}
	t.Logf("%d of %d lines of function bodies are blank, %.1f %%", blank, body, 100*float64(blank)/float64(body))
	if blank*1000 < body*minBlankPerThousand {
		t.Errorf("%d of %d lines of function bodies are blank, fewer than %d in a thousand: put blank lines between the steps", blank, body, minBlankPerThousand)
	}
}

// private matches names that need a list to be understood, which a reader does not have.
var private = regexp.MustCompile(`(?i)mustshow|must_show|(^|[^a-z])(issue|finding|r)_?[0-9]+(_|$)`)

func TestNamesSayTheBehaviour(t *testing.T) {
	for _, file := range goFiles(t) {
		if private.MatchString(file.name) {
			t.Errorf("%s: name the file after the behaviour that it shows", file.name)
		}
		declared, err := functions(file.name, file.data)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range declared {
			if private.MatchString(f.Name) {
				t.Errorf("%v: name the function after the behaviour that it shows", f)
			}
		}
	}
}

func TestLayoutCountsLinesOfCodeOnly(t *testing.T) {
	const source = `package p

func f() {
	a := 1

	b := []int{
		1,
		2,
		3,
		4,
		5,

		6,
	}
	use(a, b)
}
`
	got, err := functions("p.go", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	if want := (function{File: "p.go", Line: 3, Name: "f", Lines: 7, Body: 5, Blank: 1}); len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
