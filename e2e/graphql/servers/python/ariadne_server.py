"""Ariadne on uvicorn. Uploads and queries by GET are its defaults; subscriptions go by WebSocket.
"""

import rig
from ariadne import MutationType, QueryType, SubscriptionType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLTransportWSHandler

query, mutation, subscription = QueryType(), MutationType(), SubscriptionType()
for f in rig.QUERY:
    query.set_field(f, lambda *_, name=f: name)
query.set_field("node", lambda *_: {})
query.set_field("counter", lambda *_: rig.counter)
query.set_field("echo", lambda *_, x=None: x)
for f in rig.MUTATION:
    mutation.set_field(f, lambda *_, x=None: rig.raise_counter())


async def raises(*_):
    yield rig.raise_counter()


for f in rig.SUBSCRIPTION:
    subscription.set_source(f, raises)
    subscription.set_field(f, lambda n, _: n)

schema = make_executable_schema(rig.SDL, query, mutation, subscription)
app = GraphQL(schema, websocket_handler=GraphQLTransportWSHandler(), execute_get_queries=True)


async def routed(scope, receive, send):
    if scope["type"] == "lifespan" or scope["path"].startswith("/graphql"):
        return await app(scope, receive, send)
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


rig.serve_asgi(routed)
