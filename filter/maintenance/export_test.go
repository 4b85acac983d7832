package maintenance

import "strings"

// Readings are the ways in which a path may be read, the one as sent first.
func Readings(r *Request) (paths []string, certain, anything bool) {
	p := read(r)
	for i := range p.len() {
		paths = append(paths, p.at(i))
	}
	return paths, p.certain, p.anything
}

const (
	MaxReadings  = maxReadings
	MaxDisguised = maxDisguised
)

// Disguises are what follows a reading to the next.
var Disguises = disguises[:]

// Query is what may be read as the query of a request.
func Query(r *Request) string {
	p := read(r)
	return p.query
}

// BuiltinLanguages are those of the built-in page.
func BuiltinLanguages() string { return strings.Join(builtinLanguages, " ") }

// Rules are all rules that have an explanation here.
func Rules() (rules []Rule) {
	for r := range explanations {
		rules = append(rules, r)
	}
	return rules
}
