package maintenance_test

import (
	"os"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The book of readings in docs/read-only.md has a row for every way that is followed.
func TestBookOfReadings(t *testing.T) {
	page, err := os.ReadFile("../../docs/read-only.md")
	if err != nil {
		t.Fatal(err)
	}
	_, book, found := strings.Cut(string(page), "## The book of readings")
	if !found {
		t.Fatal("docs/read-only.md has no book of readings")
	}

	for name := range maintenance.PathWays() {
		if !strings.Contains(book, "\n| "+name+" | ") {
			t.Errorf("docs/read-only.md: the book has no row for the path's way %q", name)
		}
	}
	for _, name := range maintenance.ReadHeaders() {
		if !strings.Contains(book, "`"+name+"`") {
			t.Errorf("docs/read-only.md: the book does not name the header %s", name)
		}
	}
}
