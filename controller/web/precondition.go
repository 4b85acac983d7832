package web

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// Precondition is embedded in the input of every operation that changes an app.
type Precondition struct {
	IfMatch     string `header:"If-Match" doc:"The ETag of what was read, or * for any state. Either this or If-None-Match is required"`
	IfNoneMatch string `header:"If-None-Match" doc:"*: the app must not exist yet"`
}

// condition parses the headers (RFC 9110 section 13.1). A request without any is refused with 428,
// so that no change is made without knowing what it replaces.
func (p Precondition) condition() (keeper.Condition, error) {
	switch {
	case p.IfMatch == "" && p.IfNoneMatch == "":
		return keeper.Condition{}, newProblem(http.StatusPreconditionRequired,
			"a change requires If-Match: the ETag of what was read, or * for any state")
	case p.IfMatch != "" && p.IfNoneMatch != "":
		return keeper.Condition{}, badHeader("If-None-Match", "must not be combined with If-Match")
	case p.IfNoneMatch == "*":
		return keeper.Condition{Absent: true}, nil
	case p.IfNoneMatch != "":
		return keeper.Condition{}, badHeader("If-None-Match", "must be *, which creates an app that does not exist yet")
	case strings.TrimSpace(p.IfMatch) == "*":
		return keeper.Always, nil
	}

	c := keeper.Condition{ETags: []string{}}
	for tag := range strings.SplitSeq(p.IfMatch, ",") {
		tag = strings.TrimSpace(tag)

		// A weak tag never matches here (RFC 9110 section 13.1.1), but is well formed.
		if strong := strings.TrimPrefix(tag, "W/"); len(strong) < 2 || strong[0] != '"' || strong[len(strong)-1] != '"' {
			return keeper.Condition{}, badHeader("If-Match", fmt.Sprintf("%q must be an ETag with its quotes, as the API sent it", cmp.Or(tag, " ")))
		}
		c.ETags = append(c.ETags, tag)
	}
	return c, nil
}

func badHeader(header, message string) *huma.ErrorModel {
	p := newProblem(http.StatusBadRequest, header+": "+message)
	p.Errors = []*huma.ErrorDetail{{Location: "header." + header, Message: message}}
	return p
}
