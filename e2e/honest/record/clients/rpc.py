"""Asks a gRPC server for its health and its services: rpc.py HOST:PORT."""
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    health = health_pb2_grpc.HealthStub(channel)
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    for call in (
        lambda: health.Check(health_pb2.HealthCheckRequest(service="shop"), timeout=3),
        lambda: list(health.Watch(health_pb2.HealthCheckRequest(), timeout=1)),
        lambda: list(reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=3)),
        lambda: channel.unary_unary("/shop.v1.Orders/Create")(b"", timeout=3),
    ):
        try:
            call()
        except grpc.RpcError:  # the recorder has no such service, but the request is recorded
            pass
