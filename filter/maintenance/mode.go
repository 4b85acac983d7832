package maintenance

import (
	"cmp"
	"strings"
)

// Mode says how much of an app is closed. All properties of the modes are in this file, apart from
// what read-only lets pass (readonly.go).
type Mode string

const (
	// Off lets every request pass.
	Off Mode = "off"
	// ReadOnly lets a request pass only if it provably writes nothing.
	ReadOnly Mode = "read-only"
	// NoAccess lets no request pass.
	NoAccess Mode = "no-access"
)

// modes are the modes that close an app, from the least to the most strict. Everything that lists,
// compares or describes modes uses this list. A new mode needs a constant above, an entry here and
// a case in judge.
var modes = [...]struct {
	mode Mode
	// graphQLCode is extensions.code in the GraphQL reply to a refused request.
	graphQLCode string
	// texts are what people read, for each of builtinLanguages.
	texts map[string]modeText
}{
	{
		mode:        ReadOnly,
		graphQLCode: "MAINTENANCE_READ_ONLY",
		texts: map[string]modeText{
			"de": {"Wartung: nur Lesen", "Wegen Wartungsarbeiten kann zurzeit nur gelesen und nichts geändert werden."},
			"en": {"Read-only for maintenance", "We are read-only for maintenance: nothing can be changed for now."},
			"es": {"Solo lectura por mantenimiento", "Durante el mantenimiento se puede consultar, pero no se puede modificar nada."},
			"fr": {"Lecture seule pendant la maintenance", "Pendant la maintenance, la consultation reste possible mais rien ne peut être modifié."},
			"it": {"Sola lettura per manutenzione", "Durante la manutenzione si può consultare, ma non modificare nulla."},
			"zh": {"维护中：只读", "系统维护期间只能浏览，暂时无法修改。"},
		},
	},
	{
		mode:        NoAccess,
		graphQLCode: "MAINTENANCE_NO_ACCESS",
		texts: map[string]modeText{
			"de": {"Wartungsarbeiten", "Wegen Wartungsarbeiten sind wir gerade nicht erreichbar und bald wieder da."},
			"en": {"Down for maintenance", "We are down for maintenance and will be back soon."},
			"es": {"En mantenimiento", "Estamos en mantenimiento y volveremos pronto."},
			"fr": {"Maintenance en cours", "Nous sommes en maintenance et serons bientôt de retour."},
			"it": {"In manutenzione", "Siamo in manutenzione e torneremo presto."},
			"zh": {"系统维护中", "系统正在维护，很快恢复。"},
		},
	},
}

// modeText is a mode's title and message in one language.
type modeText struct{ title, message string }

// Modes returns the modes that an activation or a window may have, from the least to the most
// strict.
func Modes() (list []Mode) {
	for i := range modes {
		list = append(list, modes[i].mode)
	}

	return list
}

// ModeList returns the names of [Modes] as messages list them: "read-only or no-access".
func ModeList() string {
	last := len(modes) - 1
	var names []string
	for i := range modes[:last] {
		names = append(names, string(modes[i].mode))
	}

	return strings.Join(names, ", ") + " or " + string(modes[last].mode)
}

// Valid reports whether an activation or a window may have mode m. They may not have Off.
func (m Mode) Valid() bool { return m.strictness() > 0 }

// Compare returns +1 if m is stricter than o, -1 if o is stricter than m, and 0 otherwise.
func (m Mode) Compare(o Mode) int { return cmp.Compare(m.strictness(), o.strictness()) }

// strictness returns a number that is greater the stricter a mode is. It is 0 for Off, and for a
// mode that does not exist.
func (m Mode) strictness() int {
	for i := range modes {
		if modes[i].mode == m {
			return i + 1
		}
	}
	return 0
}

// isStrictest reports whether no mode is stricter.
func (m Mode) isStrictest() bool { return m.strictness() == len(modes) }

// judge completes the decision d on a request that neither an exemption nor a bypass of the app
// lets pass. It is a switch, and not a function in each entry of modes: the compiler would then
// move d to the heap, which costs an allocation for each request.
func (m Mode) judge(a *app, r *Request, d *Decision) {
	switch m {
	case ReadOnly:
		a.judgeReadOnly(r, d)
	default:
		d.refuse(RuleNoAccess)
	}
}

// graphQLCode returns the code of the mode in GraphQL replies.
func (m Mode) graphQLCode() string { return modes[m.index()].graphQLCode }

// text returns the texts of the mode in a language, which must be one of builtinLanguages.
func (m Mode) text(lang string) modeText { return modes[m.index()].texts[lang] }

// index returns the index of m in modes. For Off it returns the index of the strictest mode: the
// filter also refuses requests that wait for the first state, and the mode of their app is Off
// then.
func (m Mode) index() int {
	if i := m.strictness() - 1; i >= 0 {
		return i
	}
	return len(modes) - 1
}

// builtinLanguages are the languages of the texts in modes, sorted.
var builtinLanguages = []string{"de", "en", "es", "fr", "it", "zh"}
