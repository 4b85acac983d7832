"""graphql-core under a hand-made Flask view on waitress, which accepts a query in any form.

It reads JSON of any type (json.loads on bytes also reads UTF-16 and UTF-32), forms,
application/graphql and parameters of the URL; any operation by any method, also mutations by GET;
batches; the method override from Flask's documentation; a prefix of the path that a header names;
and stored operations by their path.
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
    """The middleware of Flask's documentation, with the parameter that other frameworks read too.
    """

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __call__(self, environ, start_response):
        method = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "").upper()
        if method in {"GET", "POST", "PUT", "PATCH", "DELETE"}:
            environ["REQUEST_METHOD"] = method
        return self.wrapped(environ, start_response)


class ReverseProxied:
    """Snippet 35 of Flask's snippet archive, which many services have: X-Script-Name is cut from
    the path."""

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

# By their id and, if given, their name, as in MapGraphQLPersistedOperations of Hot Chocolate.
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
