package demo

// This file has the gRPC API of the shop. Its messages are well-known types of protobuf: Empty, and
// StringValue for the name of an item.

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The paths of the gRPC methods of the shop. List reads, Place writes, and Watch streams new
// orders.
const (
	RPCList  = "/demo.Shop/List"  // Empty → StringValue: the items of the orders, one a line
	RPCPlace = "/demo.Shop/Place" // StringValue → StringValue: the item to order, and back
	RPCWatch = "/demo.Shop/Watch" // Empty → stream StringValue: the item of each new order
)

// newRPC returns a gRPC server with the shop and the standard health service. It describes the shop
// by hand, because three methods with well-known types do not need a code generator. The handlers
// therefore have the types that generated code has.
func (a *App) newRPC() *grpc.Server {
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "demo.Shop",
		HandlerType: (*any)(nil), // the handlers below need no receiver of a certain type
		Methods: []grpc.MethodDesc{
			{MethodName: "List", Handler: a.listRPC},
			{MethodName: "Place", Handler: a.placeRPC},
		},
		Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: a.watchRPC}},
	}, nil)
	return s
}

// listRPC handles RPCList. decode decodes the request.
func (a *App) listRPC(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	if err := decode(new(emptypb.Empty)); err != nil {
		return nil, err
	}

	var names []string
	for _, o := range a.Orders() {
		names = append(names, o.Item)
	}
	return wrapperspb.String(strings.Join(names, "\n")), nil
}

// placeRPC handles RPCPlace.
func (a *App) placeRPC(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.StringValue)
	if err := decode(in); err != nil {
		return nil, err
	}

	if in.Value == "" {
		return nil, status.Error(codes.InvalidArgument, "item is missing")
	}
	return wrapperspb.String(a.place(in.Value, "grpc").Item), nil
}

// watchRPC handles RPCWatch. It returns when the client is gone or the app stops.
func (a *App) watchRPC(_ any, stream grpc.ServerStream) error {
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
