"""Strawberry on uvicorn with batching, uploads and GET. Subscriptions go by its multipart protocol
and by WebSocket."""

from typing import AsyncGenerator, Optional

import rig
import strawberry
from strawberry.asgi import GraphQL
from strawberry.schema.config import StrawberryConfig


def text(name):
    def resolve() -> Optional[str]:
        return name

    return strawberry.field(resolve, name=name)


def mutation(name):
    def resolve() -> Optional[int]:
        return rig.raise_counter()

    return strawberry.mutation(resolve, name=name)


def subscription(name):
    async def resolve() -> AsyncGenerator[Optional[int], None]:
        yield rig.raise_counter()

    return strawberry.subscription(resolve, name=name)


def echo(x: Optional[str] = None) -> Optional[str]:
    return x


def count() -> Optional[int]:
    return rig.counter


def echo_raise(x: Optional[str] = None) -> Optional[int]:
    return rig.raise_counter()


def node() -> Optional["Query"]:
    return Query()


def kind(name, fields):
    return strawberry.type(type(name, (), fields), name=name)


Query = kind("Query", {
    **{f: text(f) for f in rig.QUERY},
    "echo": strawberry.field(echo), "counter": strawberry.field(count), "node": strawberry.field(node),
})
Mutation = kind("Mutation", {**{f: mutation(f) for f in rig.MUTATION}, "echo": strawberry.mutation(echo_raise)})
Subscription = kind("Subscription", {f: subscription(f) for f in rig.SUBSCRIPTION})

schema = strawberry.Schema(Query, Mutation, Subscription, config=StrawberryConfig(batching_config={"max_operations": 50}))
app = GraphQL(schema, multipart_uploads_enabled=True, allow_queries_via_get=True)


async def routed(scope, receive, send):
    # Starlette mounts an app in this way: the server takes the prefix away.
    if scope["type"] == "lifespan" or scope["path"].startswith("/graphql"):
        return await app(scope, receive, send)
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


rig.serve_asgi(routed)
