"""FastAPI on uvicorn, which trusts the proxy. A middleware overrides the method, and the path is
cut by the prefix that Traefik forwards, as the tutorials on sub-paths describe it."""

import rig
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.datastructures import Headers, QueryParams

app = FastAPI(default_response_class=PlainTextResponse)
ANY = [*rig.METHODS, "GET", "HEAD", "OPTIONS"]


def resource(path: str, name: str):
    def endpoint(request: Request):
        text = rig.answer(name, request.method, request.url.hostname or "")
        return PlainTextResponse(text) if text else Response(status_code=404)

    app.add_api_route(path, endpoint, methods=ANY)


for path in ("/orders", "/orders/{id}", "/orders.{format}"):
    resource(path, "orders")
for name in ("search", "login", "tenant", "logout", "healthz"):
    resource(f"/{name}", name)
app.add_api_route("/__counter", lambda: PlainTextResponse(str(rig.counter)))


class MethodOverride:
    """Reads the header, the URL and the form, in this order."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.wrapped(scope, receive, send)
        method = Headers(scope=scope).get("x-http-method-override") or QueryParams(scope["query_string"]).get("_method")
        if not method:
            request = Request(scope, receive)
            body = await request.body()
            sent = False

            async def receive():
                nonlocal sent
                if sent:
                    return {"type": "http.disconnect"}
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}

            try:
                form = await Request(scope, receive).form()
                method = form.get("_method")
            except Exception:
                method = None
            sent = False
        if isinstance(method, str) and method:
            scope = {**scope, "method": method.upper()}
        await self.wrapped(scope, receive, send)


class ForwardedPrefix:
    def __init__(self, wrapped):
        self.wrapped = wrapped

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            prefix = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
            if prefix:
                scope = {**scope, "root_path": prefix}
        await self.wrapped(scope, receive, send)


app.add_middleware(MethodOverride)
app.add_middleware(ForwardedPrefix)
rig.serve_uvicorn(app)
