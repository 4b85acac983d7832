package web

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// Clients of the API send an API token in the header Authorization. The keeper knows the tokens,
// and the role that each has: viewer or operator.

// access says who may call an operation: everybody, or clients whose token has a role. The role
// operator includes the role viewer.
type access string

const (
	public   access = "public"
	viewer   access = access(keeper.Viewer)
	operator access = access(keeper.Operator)
)

// actorKey is the key of the [keeper.Actor] in a request's context.
type actorKey struct{}

// actorOf returns who makes a request, for the audit log. It panics in a public operation, for
// which authorize does not run.
func actorOf(ctx context.Context) keeper.Actor { return ctx.Value(actorKey{}).(keeper.Actor) }

// authorize returns a middleware for an operation that is not public. It answers requests of
// clients that may not call the operation, and calls next for the others, with the client's
// [keeper.Actor] in the request's context.
func (a *api) authorize(allowed access) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		actor, problem := a.authenticate(ctx, keeper.Role(allowed))
		if problem == nil {
			next(huma.WithValue(ctx, actorKey{}, actor))
			return
		}

		if problem.Status == http.StatusUnauthorized {
			ctx.SetHeader("WWW-Authenticate", `Bearer realm="drydock"`)
		}
		_, w := humago.Unwrap(ctx) // a middleware answers by itself, not by an output as operations do
		writeProblem(w, problem.Status, problem.Detail)
	}
}

// authenticate returns who makes a request. If the request has no valid token, or if the token's
// role does not include the required one, it returns the problem to answer with: 401 or 403.
func (a *api) authenticate(ctx huma.Context, required keeper.Role) (keeper.Actor, *huma.ErrorModel) {
	secret, ok := bearerToken(ctx.Header("Authorization"))
	if !ok {
		return keeper.Actor{}, newProblem(http.StatusUnauthorized, "an API token is required, as Authorization: Bearer TOKEN")
	}

	token, ok := a.Keeper.Authenticate(secret)
	if !ok {
		return keeper.Actor{}, newProblem(http.StatusUnauthorized, "the API token is unknown or was revoked")
	}

	if !token.Role.Includes(required) {
		return keeper.Actor{}, newProblem(http.StatusForbidden,
			"token "+token.Name+" has the role "+string(token.Role)+"; this operation requires "+string(required))
	}

	remote, _, err := net.SplitHostPort(ctx.RemoteAddr())
	if err != nil {
		remote = ctx.RemoteAddr()
	}
	return keeper.Actor{Name: token.Name, Role: token.Role, Remote: remote}, nil
}

// bearerToken returns the token of an Authorization header of the form "Bearer TOKEN" (RFC 6750
// section 2.1), and whether the header has this form. The name of the scheme is case-insensitive
// (RFC 9110 section 11.1).
func bearerToken(authorization string) (token string, ok bool) {
	scheme, token, _ := strings.Cut(authorization, " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}
