package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
)

func init() { clients["grpc"] = sendGRPC }

// sendGRPC asks a server at host:port for its health and its services, and for a write.
func sendGRPC(target string) (string, error) {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	health := healthpb.NewHealthClient(conn)
	_, _ = health.Check(ctx, &healthpb.HealthCheckRequest{Service: "shop"})
	_, _ = health.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.UseCompressor(gzip.Name))
	if watch, err := health.Watch(ctx, &healthpb.HealthCheckRequest{}); err == nil {
		_, _ = watch.Recv()
	}
	if info, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx); err == nil {
		_ = info.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		_ = info.CloseSend()
		_, _ = info.Recv()
	}
	_ = conn.Invoke(ctx, "/shop.v1.Orders/Create", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	return "grpc-go " + grpc.Version, nil
}
