"""graphql-core under a hand-made Flask view on waitress, as many services have it: whatever carries a query will do.

JSON whatever the type says it is (json.loads on bytes also reads UTF-16 and UTF-32), forms, application/graphql,
parameters of the URL, any operation by any method, batches, Flask's documented method override, and mutations by GET.
"""

import json

import rig
from flask import Flask, request
from graphql import build_schema, graphql_sync

schema = build_schema(rig.SDL)
for name, field in schema.query_type.fields.items():
    field.resolve = lambda *_, name=name, **__: name
schema.query_type.fields["node"].resolve = lambda *_: {}
schema.query_type.fields["counter"].resolve = lambda *_: rig.counter
for kind in (schema.mutation_type, schema.subscription_type):
    for field in kind.fields.values():
        field.resolve = lambda *_, **__: rig.raise_counter()

app = Flask(__name__)


class MethodOverride:
    """The middleware of Flask's documentation, with the parameter that other frameworks read too."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __call__(self, environ, start_response):
        method = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "").upper()
        if method in {"GET", "POST", "PUT", "PATCH", "DELETE"}:
            environ["REQUEST_METHOD"] = method
        return self.wrapped(environ, start_response)


app.wsgi_app = MethodOverride(app.wsgi_app)


def execute(data):
    result = graphql_sync(
        schema, data.get("query"), variable_values=data.get("variables") or None, operation_name=data.get("operationName") or None
    )
    return result.formatted


@app.route("/graphql", methods=["GET", "POST", "PUT", "PATCH"], strict_slashes=False)
def graphql():
    data = None
    if request.mimetype == "application/graphql":
        data = {"query": request.get_data(as_text=True)}
    elif request.mimetype not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        data = request.get_json(force=True, silent=True)
    if isinstance(data, list):
        return json.dumps([execute(entry) for entry in data])
    return execute({**request.values, **(data or {})})


rig.serve_wsgi(app)
