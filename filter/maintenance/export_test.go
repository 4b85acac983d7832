package maintenance

import (
	"slices"
	"strings"
)

// This file gives the tests, which are in the package maintenance_test, access to what is not
// exported.

// Readings returns the readings of a request's path, beginning with the path as sent, and reports
// whether there are more than were followed.
func Readings(r *Request) (paths []string, anyPath bool) {
	rs := r.interpret()
	return rs.paths, rs.anyPath
}

const (
	MaxReadings = maxReadings
	MaxReadPath = maxReadPath
)

// PathWays returns the ways that lead from one reading to the next, by name.
func PathWays() map[string]func(string) string {
	rs := map[string]func(string) string{}
	for _, way := range pathWays {
		rs[way.name] = way.read
	}
	return rs
}

// ReadHeaders returns the headers from which paths and hosts are read.
func ReadHeaders() []string {
	return slices.Concat(pathHeaders[:], prefixHeaders[:], hostHeaders[:], []string{"forwarded"})
}

// Query returns everything that may be read as the query of a request.
func Query(r *Request) string { return r.interpret().query }

// Written returns a configuration with only the fields that an operator writes, so that it can be
// compared.
func Written(c Config) Config {
	c.exempt = nil
	return c
}

// BuiltinLanguages returns the languages of the built-in page, with blanks between them.
func BuiltinLanguages() string { return strings.Join(builtinLanguages, " ") }

// Rules returns all rules that are explained in this package.
func Rules() (rules []Rule) {
	for r := range explanations {
		rules = append(rules, r)
	}
	return rules
}
