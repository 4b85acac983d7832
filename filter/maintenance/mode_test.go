package maintenance_test

import (
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestModesAreOrderedByStrictness(t *testing.T) {
	before := maintenance.Off // the mode before the one that the loop checks
	if before.Valid() {
		t.Errorf("%s is valid in an activation", before)
	}
	if maintenance.Mode("closed").Valid() {
		t.Error("an unknown mode is valid in an activation")
	}

	for _, mode := range maintenance.Modes() {
		if !mode.Valid() {
			t.Errorf("%s is not valid in an activation", mode)
		}
		if mode.Compare(before) != +1 || before.Compare(mode) != -1 || mode.Compare(mode) != 0 {
			t.Errorf("%s does not compare as stricter than %s", mode, before)
		}

		before = mode
	}
}

func TestModeListNamesEveryMode(t *testing.T) {
	if got, want := maintenance.ModeList(), "read-only or no-access"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The compiler does not notice a missing text or code of a mode. Only the replies show it.
func TestEveryModeRepliesInEveryLanguage(t *testing.T) {
	for _, mode := range maintenance.Modes() {
		s := mustParse(t, `{"apps":[{"name":"default",`+activationJSON(mode)+`}]}`)

		for _, lang := range strings.Fields(maintenance.BuiltinLanguages()) {
			r := request("DELETE", "h", "/", "accept", "text/html", "accept-language", lang)
			d := s.Decide(r, noon)
			if d.Verdict != maintenance.Refuse || d.Mode != mode {
				t.Fatalf("%s: %v in %s", mode, d.Verdict, d.Mode)
			}

			page := string(d.Reply(r, nil, noon).Body)

			for _, empty := range []string{"<title></title>", "<p></p>"} {
				if strings.Contains(page, empty) {
					t.Errorf("%s in %s: the page has %s", mode, lang, empty)
				}
			}
		}

		r := withBody(request("POST", "h", "/graphql"), "application/json", `{"query":"mutation{a}"}`)
		d := s.Decide(r, noon)
		code := "MAINTENANCE_" + strings.ToUpper(strings.ReplaceAll(string(mode), "-", "_"))

		if reply := d.Reply(r, nil, noon); !strings.Contains(string(reply.Body), `"code":"`+code+`"`) {
			t.Errorf("%s: the GraphQL reply has no code %s: %s", mode, code, reply.Body)
		}
	}
}

// A mode without a case in Mode.judge refuses everything, as no-access does.
func TestEveryModeHasRulesOfItsOwn(t *testing.T) {
	for _, mode := range maintenance.Modes() {
		s := mustParse(t, `{"apps":[{"name":"default",`+activationJSON(mode)+`}]}`)
		d := s.Decide(request("DELETE", "h", "/"), noon)
		if isNoAccess := mode == maintenance.NoAccess; (d.Rule == maintenance.RuleNoAccess) != isNoAccess {
			t.Errorf("%s refuses by %s", mode, d.Rule)
		}
	}
}
