package demo

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/graphql-go/graphql"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

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
		panic(err) // a mistake in the lines above
	}
	return schema
}

func (a *App) graphql(w http.ResponseWriter, r *http.Request) {
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
	reply(w, http.StatusOK, graphql.Do(graphql.Params{
		Schema: a.schema, RequestString: in.Query, OperationName: in.OperationName, VariableValues: in.Variables, Context: r.Context(),
	}))
}

// The shop's gRPC methods. List reads, Place writes, Watch streams new orders.
const (
	RPCList  = "/demo.Shop/List"  // Empty → StringValue
	RPCPlace = "/demo.Shop/Place" // StringValue → StringValue
	RPCWatch = "/demo.Shop/Watch" // Empty → stream StringValue
)

// newRPC describes the service by hand: three methods on well-known types need no
// code generator.
func (a *App) newRPC() *grpc.Server {
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "demo.Shop",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "List", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				if err := decode(new(emptypb.Empty)); err != nil {
					return nil, err
				}
				var names []string
				for _, o := range a.Orders() {
					names = append(names, o.Item)
				}
				return wrapperspb.String(strings.Join(names, "\n")), nil
			}},
			{MethodName: "Place", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				in := new(wrapperspb.StringValue)
				if err := decode(in); err != nil {
					return nil, err
				}
				if in.Value == "" {
					return nil, status.Error(codes.InvalidArgument, "item is missing")
				}
				return wrapperspb.String(a.place(in.Value, "grpc").Item), nil
			}},
		},
		Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: a.watch}},
	}, nil)
	return s
}

func (a *App) watch(_ any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
		return err
	}
	feed, leave := a.subscribe()
	defer leave()
	for {
		select {
		case o := <-feed:
			if err := stream.SendMsg(wrapperspb.String(o.Item)); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-a.closed:
			return status.Error(codes.Unavailable, "the shop closes")
		}
	}
}
