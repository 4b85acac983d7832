// Package golden compares what a test got with a file that is under review. The flag -update, which
// it adds to the tests that import it, rewrites the file instead; read the diff afterwards.
package golden

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Update reports whether the flag -update was given, for tests that keep their golden text in a
// format of their own.
func Update() bool { return *update }

// Compare fails the test unless the file holds exactly got. With -update it writes got to the file.
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
	n := 0
	for n < len(gotLines) && n < len(wantLines) && gotLines[n] == wantLines[n] {
		n++
	}
	t.Errorf("%s differs from line %d on (-update rewrites it)\ngot:\n%s\nwant:\n%s", file, n+1, excerpt(gotLines, n), excerpt(wantLines, n))
}

// excerpt returns a few lines from line n on, or says that the text ends before it.
func excerpt(lines []string, n int) string {
	if n >= len(lines) {
		return "(the end)"
	}
	return strings.Join(lines[n:min(n+5, len(lines))], "")
}
