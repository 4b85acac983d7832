package maintenance_test

import (
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Versions are ordered by their epoch, and within one epoch by their revision.
func TestVersionsAreOrdered(t *testing.T) {
	v := func(epoch, revision uint64) maintenance.Version {
		return maintenance.Version{Epoch: epoch, Revision: revision}
	}
	ordered := []maintenance.Version{v(0, 0), v(0, 1), v(0, 1<<63), v(1, 0), v(1, 7), v(2, 0), v(1<<63, 0)}

	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}

			if got := a.Compare(b); got != want {
				t.Errorf("%v and %v: %d", a, b, got)
			}
		}
	}

	if got := mustParse(t, `{"epoch":18446744073709551615,"revision":9}`).Version(); got != v(1<<64-1, 9) {
		t.Errorf("got %v", got)
	}
}
