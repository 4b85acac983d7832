// Package golden compares what a test got with a golden file: a file in the repository, mostly
// below testdata/, that holds the text that the test must get. Importing the package adds the flag
// -update to a test: `go test ./PACKAGE -update` writes the text that the test got to the file
// instead. Read the diff before you commit it.
package golden

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Update reports whether the flag -update was given. Tests that cannot use [Compare], because their
// golden text is only a part of a file, call it.
func Update() bool { return *update }

// Compare fails the test unless the file contains exactly the text got. The path is relative to the
// package of the test. With -update, Compare writes got to the file, and the test passes.
func Compare(t testing.TB, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}

	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	want := string(data)
	if got == want {
		return
	}

	gotLines, wantLines := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	same := 0 // lines that are equal, from the first one on
	for same < len(gotLines) && same < len(wantLines) && gotLines[same] == wantLines[same] {
		same++
	}
	t.Errorf("%s differs from line %d on (-update rewrites it)\ngot:\n%s\nwant:\n%s",
		file, same+1, excerpt(gotLines, same), excerpt(wantLines, same))
}

// excerpt returns at most five lines from lines[start] on, or "(the end)" if no text is left there.
func excerpt(lines []string, start int) string {
	if start >= len(lines) || lines[start] == "" {
		return "(the end)"
	}
	return strings.Join(lines[start:min(start+5, len(lines))], "")
}
