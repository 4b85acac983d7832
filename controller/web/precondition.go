package web

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// Precondition is embedded in the input of every operation that changes an app. It holds the
// headers with which a client says which state of the app its change is meant for (RFC 9110 section
// 13.1). Their texts are in the OpenAPI document.
type Precondition struct {
	IfMatch     string `header:"If-Match" doc:"The ETag of what was read, or * for any state. Either this or If-None-Match is required"`
	IfNoneMatch string `header:"If-None-Match" doc:"Only * is allowed: the app must not exist yet"`
}

// parse returns what the headers require, for the keeper to check. Exactly one of them must be
// there. A request without any is refused with 428, so that a client that overwrites the changes of
// others does so on purpose, with If-Match: *.
func (p Precondition) parse() (keeper.Condition, error) {
	switch {
	case p.IfMatch == "" && p.IfNoneMatch == "":
		return keeper.Condition{}, newProblem(http.StatusPreconditionRequired,
			"a change requires If-Match: the ETag of what was read, or * for any state")
	case p.IfMatch != "" && p.IfNoneMatch != "":
		return keeper.Condition{}, headerProblem("If-None-Match", "must not be combined with If-Match")
	case p.IfNoneMatch == "*":
		return keeper.Condition{Absent: true}, nil
	case p.IfNoneMatch != "":
		return keeper.Condition{}, headerProblem("If-None-Match", "must be *, which creates an app that does not exist yet")
	case strings.TrimSpace(p.IfMatch) == "*":
		return keeper.Always, nil
	}

	etags, err := parseETags(p.IfMatch)
	return keeper.Condition{ETags: etags}, err
}

// parseETags returns the ETags of an If-Match header, which are separated by commas. An ETag is a
// string in quotes, with W/ before it if it is weak. Weak ETags are returned with their W/. They
// equal none of the API's ETags, which are all strong, and so never match, as RFC 9110 section
// 13.1.1 requires.
func parseETags(ifMatch string) ([]string, error) {
	var etags []string
	for etag := range strings.SplitSeq(ifMatch, ",") {
		etag = strings.TrimSpace(etag)
		if etag == "" {
			return nil, headerProblem("If-Match", "must be ETags that are separated by commas, none of them empty")
		}

		quoted := strings.TrimPrefix(etag, "W/")
		if len(quoted) < 2 || quoted[0] != '"' || quoted[len(quoted)-1] != '"' {
			return nil, headerProblem("If-Match", fmt.Sprintf("%q must be an ETag with its quotes, as the API sent it", etag))
		}
		etags = append(etags, etag)
	}
	return etags, nil
}

// headerProblem returns the problem of a request with an invalid header. Its field names the header
// as huma names those that huma checks.
func headerProblem(header, message string) *huma.ErrorModel {
	p := newProblem(http.StatusBadRequest, header+": "+message)
	p.Errors = []*huma.ErrorDetail{{Location: "header." + header, Message: message}}
	return p
}
