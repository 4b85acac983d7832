package demo

import (
	"encoding/json"
	"net/http"

	"github.com/graphql-go/graphql"
)

// newSchema returns the schema of the shop: the queries orders and stock, and the mutation
// placeOrder.
func (a *App) newSchema() graphql.Schema {
	order := graphql.NewObject(graphql.ObjectConfig{Name: "Order", Fields: graphql.Fields{
		"id":   {Type: graphql.NewNonNull(graphql.Int)},
		"item": {Type: graphql.NewNonNull(graphql.String)},
		"via":  {Type: graphql.NewNonNull(graphql.String)},
	}})

	schema, err := graphql.NewSchema(graphql.SchemaConfig{
		Query: graphql.NewObject(graphql.ObjectConfig{Name: "Query", Fields: graphql.Fields{
			"orders": {
				Type:    graphql.NewList(order),
				Resolve: func(graphql.ResolveParams) (any, error) { return a.Orders(), nil },
			},
			"stock": {
				Type:    graphql.NewList(graphql.String),
				Resolve: func(graphql.ResolveParams) (any, error) { return items, nil },
			},
		}}),
		Mutation: graphql.NewObject(graphql.ObjectConfig{Name: "Mutation", Fields: graphql.Fields{
			"placeOrder": {
				Type:    order,
				Args:    graphql.FieldConfigArgument{"item": {Type: graphql.NewNonNull(graphql.String)}},
				Resolve: func(p graphql.ResolveParams) (any, error) { return a.place(p.Args["item"].(string), "graphql"), nil },
			},
		}}),
	})
	if err != nil {
		panic(err) // a mistake in the schema above
	}

	return schema
}

// serveGraphQL answers a GraphQL request over HTTP: a POST of JSON, or a GET with the document in
// the parameter query. It also runs mutations by GET, as some servers do although GraphQL over HTTP
// forbids it.
func (a *App) serveGraphQL(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Query         string         `json:"query"`
		OperationName string         `json:"operationName"`
		Variables     map[string]any `json:"variables"`
	}
	if r.Method == http.MethodGet {
		in.Query, in.OperationName = r.URL.Query().Get("query"), r.URL.Query().Get("operationName")
	} else if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in); err != nil {
		http.Error(w, "the body is not a GraphQL request: "+err.Error(), http.StatusBadRequest)
		return
	}

	replyJSON(w, http.StatusOK, graphql.Do(graphql.Params{
		Schema: a.schema, RequestString: in.Query, OperationName: in.OperationName, VariableValues: in.Variables, Context: r.Context(),
	}))
}
