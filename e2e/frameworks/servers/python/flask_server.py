"""Flask on gunicorn with snippets from its documentation that many applications have.

The method is overridden by the documented middleware (header), by snippet 38
(?__METHOD_OVERRIDE__=), and from the form as users of WTForms do. ReverseProxied cuts the path by
X-Script-Name, and ProxyFix trusts X-Forwarded-*.
"""

import rig
from flask import Flask, abort, request
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
app.url_map.strict_slashes = False
app.url_map.merge_slashes = True


class MethodOverride:
    """The middleware from "Adding HTTP Method Overrides" of Flask's patterns, without its list of
    methods that have no body."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __call__(self, environ, start_response):
        method = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "").upper()
        if method in {"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"}:
            environ["REQUEST_METHOD"] = method
        return self.wrapped(environ, start_response)


class ParameterOverride:
    """Snippet 38 of the snippet archive, which reads the parameter __METHOD_OVERRIDE__ of the URL,
    and also _method of a form."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __call__(self, environ, start_response):
        from werkzeug.wrappers import Request

        r = Request(environ, populate_request=False, shallow=False)
        method = r.args.get("__METHOD_OVERRIDE__", "")
        if not method and r.method == "POST":
            method = r.form.get("_method", "")
        if method:
            environ["REQUEST_METHOD"] = method.upper()
        return self.wrapped(environ, start_response)


class ReverseProxied:
    """Snippet 35 of the snippet archive: the app is below a prefix that the front end names."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __call__(self, environ, start_response):
        script_name = environ.get("HTTP_X_SCRIPT_NAME", "")
        if script_name:
            environ["SCRIPT_NAME"] = script_name
            path_info = environ["PATH_INFO"]
            if path_info.startswith(script_name):
                environ["PATH_INFO"] = path_info[len(script_name):]
        return self.wrapped(environ, start_response)


app.wsgi_app = ProxyFix(ReverseProxied(MethodOverride(ParameterOverride(app.wsgi_app))), x_for=1, x_proto=1, x_host=1, x_prefix=1)
ANY = [*rig.METHODS, "GET", "HEAD", "OPTIONS"]


@app.route("/orders", defaults={"resource": "orders"}, methods=ANY)
@app.route("/orders/<id>", defaults={"resource": "orders"}, methods=ANY)
@app.route("/<any(search, login, tenant, logout, healthz):resource>", methods=ANY)
def resources(resource, id=None):
    return rig.answer(resource, request.method, request.host.partition(":")[0]) or abort(404)


@app.route("/__counter")
def counter():
    return str(rig.counter)


rig.serve_gunicorn(app)
