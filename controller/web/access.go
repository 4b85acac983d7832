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

// access says who may call an operation: anybody, or callers whose token has at least a role.
type access string

const (
	public   access = "public"
	viewer   access = access(keeper.Viewer)
	operator access = access(keeper.Operator)
)

type actorKey struct{}

// actor returns who makes a request. It must only be called by operations that are not public.
func actor(ctx context.Context) keeper.Actor { return ctx.Value(actorKey{}).(keeper.Actor) }

// authorize returns a middleware that only lets callers with a role through, and adds their
// [actor] to the request's context.
func (a *api) authorize(allowed access) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		by, problem := a.authenticate(ctx, keeper.Role(allowed))
		if problem == nil {
			next(huma.WithValue(ctx, actorKey{}, by))
			return
		}

		if problem.Status == http.StatusUnauthorized {
			ctx.SetHeader("WWW-Authenticate", `Bearer realm="drydock"`)
		}
		_, w := humago.Unwrap(ctx)
		writeProblem(w, problem.Status, problem.Detail)
	}
}

func (a *api) authenticate(ctx huma.Context, role keeper.Role) (keeper.Actor, *huma.ErrorModel) {
	secret, ok := bearer(ctx.Header("Authorization"))
	if !ok {
		return keeper.Actor{}, newProblem(http.StatusUnauthorized, "an API token is required, as Authorization: Bearer TOKEN")
	}

	token, ok := a.Keeper.Authenticate(secret)
	if !ok {
		return keeper.Actor{}, newProblem(http.StatusUnauthorized, "the API token is unknown or was revoked")
	}

	if !token.Role.Includes(role) {
		return keeper.Actor{}, newProblem(http.StatusForbidden, "token "+token.Name+" has the role "+string(token.Role)+"; this operation requires "+string(role))
	}

	remote, _, err := net.SplitHostPort(ctx.RemoteAddr())
	if err != nil {
		remote = ctx.RemoteAddr()
	}
	return keeper.Actor{Name: token.Name, Role: token.Role, Remote: remote}, nil
}

// bearer returns the token of an Authorization header (RFC 6750 section 2.1). The name of the
// scheme is case-insensitive (RFC 9110 section 11.1).
func bearer(authorization string) (secret string, ok bool) {
	scheme, secret, _ := strings.Cut(authorization, " ")
	secret = strings.TrimSpace(secret)
	return secret, strings.EqualFold(scheme, "Bearer") && secret != ""
}
