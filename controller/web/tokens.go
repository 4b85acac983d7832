package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// API tokens identify the clients of the API, and say what they may do. The controller stores only
// a hash of the secret that a client sends.

// Tokens describes all API tokens. It does not contain their secrets.
type Tokens struct {
	Tokens []keeper.Token `json:"tokens"`
}

// NewToken is a token with its secret, which only the answer to its creation contains.
type NewToken struct {
	keeper.Token
	Secret string `json:"token" doc:"The token itself. Only this answer contains it; the controller stores its hash"`
}

// CreateTokenRequest is the request to create a token.
type CreateTokenRequest struct {
	Name string      `json:"name" doc:"Who or what uses the token; the actor in the audit log" minLength:"1" maxLength:"100" example:"deploy-pipeline"`
	Role keeper.Role `json:"role" enum:"viewer,operator"`
}

type createTokenInput struct{ Body CreateTokenRequest }

type revokeTokenInput struct {
	Token string `path:"token" maxLength:"64" doc:"The token's id, not the token itself"`
}

func (a *api) registerTokens() {
	tags := []string{"tokens"}

	register(a, operator, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: "/api/v1/tokens", Tags: tags,
		Summary: "List the API tokens",
	}, a.listTokens)

	register(a, operator, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: "/api/v1/tokens", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Create an API token; only this answer contains it",
		Errors:  []int{http.StatusBadRequest, http.StatusServiceUnavailable},
	}, a.createToken)

	register(a, operator, huma.Operation{
		OperationID: "revoke-token", Method: http.MethodDelete, Path: "/api/v1/tokens/{token}", Tags: tags,
		Summary: "Revoke an API token at once", Description: "The last operator token cannot be revoked: the answer is 409.",
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}, a.revokeToken)
}

func (a *api) listTokens(ctx context.Context, in *struct{}) (*response[Tokens], error) {
	return &response[Tokens]{Tokens{a.Keeper.Tokens()}}, nil
}

func (a *api) createToken(ctx context.Context, in *createTokenInput) (*response[NewToken], error) {
	secret := keeper.NewSecret()
	token, err := a.Keeper.CreateToken(ctx, actorOf(ctx), in.Body.Name, in.Body.Role, secret)
	if err != nil {
		return nil, err
	}
	return &response[NewToken]{NewToken{token, secret}}, nil
}

func (a *api) revokeToken(ctx context.Context, in *revokeTokenInput) (*struct{}, error) {
	return nil, a.Keeper.RevokeToken(ctx, actorOf(ctx), in.Token)
}
