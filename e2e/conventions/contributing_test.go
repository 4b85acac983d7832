package conventions

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// namedFile is a Go file in CONTRIBUTING.md, which may be named without its first folders, and
	// the list of names behind it: `maintenance/request.go` (`NewRequest`).
	namedFile = regexp.MustCompile("`([\\w./-]+\\.go)`(?:\\s+\\(([^()]*)\\))?")
	codeName  = regexp.MustCompile("`([A-Za-z]\\w*)`")
)

// TestContributingNamesWhatExists holds CONTRIBUTING.md to the code: a file that it names must
// exist, and the names in brackets behind it must occur in it.
func TestContributingNamesWhatExists(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	sources := goFiles(t)

	for _, m := range namedFile.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(m[1], "_") {
			continue // an ending, not a file
		}
		var text strings.Builder
		for _, f := range sources {
			if f.name == m[1] || strings.HasSuffix(f.name, "/"+m[1]) {
				text.Write(f.data)
			}
		}

		if text.Len() == 0 {
			t.Errorf("CONTRIBUTING.md names the file %s, which does not exist: name the file that has taken its place", m[1])
			continue
		}
		for _, name := range codeName.FindAllStringSubmatch(m[2], -1) {
			if !regexp.MustCompile(`\b` + name[1] + `\b`).MatchString(text.String()) {
				t.Errorf("CONTRIBUTING.md says that %s has %s, which it does not: name what has taken its place", m[1], name[1])
			}
		}
	}
}
