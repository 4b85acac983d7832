"""graphql-core under a hand-made Flask view on waitress, as many services have it: whatever carries a query will do.

JSON whatever the type says it is (json.loads on bytes also reads UTF-16 and UTF-32), forms, application/graphql,
parameters of the URL, any operation by any method, batches, Flask's documented method override, mutations by GET, a
prefix that a header names and the path loses, and stored operations by their path.
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


class ReverseProxied:
    """Flask's snippet 35, which is in many services: X-Script-Name is cut from the path."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __call__(self, environ, start_response):
        prefix = environ.get("HTTP_X_SCRIPT_NAME", "")
        if prefix:
            environ["SCRIPT_NAME"] = prefix
            if environ["PATH_INFO"].startswith(prefix):
                environ["PATH_INFO"] = environ["PATH_INFO"][len(prefix):]
        return self.wrapped(environ, start_response)


app.wsgi_app = ReverseProxied(MethodOverride(app.wsgi_app))

# By their id and, where it is given, their name, as Hot Chocolate's MapGraphQLPersistedOperations has it.
stored = {"a1": ("query Read{a}", "Read"), "b2": ("mutation Pay{b}", "Pay")}


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


@app.route("/graphql/persisted/<id>", methods=["GET", "POST"])
@app.route("/graphql/persisted/<id>/<name>", methods=["GET", "POST"])
def persisted(id, name=None):
    document, only = stored.get(id, ("", ""))
    return execute({"query": document, "operationName": name or only})


rig.serve_wsgi(app)
