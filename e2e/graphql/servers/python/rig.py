"""What the Python servers of the rig share: the schema, the counter, and the line that announces
the port."""

import itertools
import pathlib
import socket
import sys

SDL = (pathlib.Path(__file__).parent.parent / "schema.graphql").read_text()
QUERY = ("a", "b", "query", "mutation", "subscription")
MUTATION = ("a", "b", "bump", "echo", "mutation")
SUBSCRIPTION = ("a", "b", "bump")

_ids = itertools.count(1)
counter = 0


def raise_counter() -> int:
    global counter
    counter = next(_ids)
    return counter


def announce(port):
    print(f"listening 127.0.0.1:{port}", flush=True)


def serve_asgi(app):
    """Serves an ASGI app on uvicorn, with the counter in front of it."""
    import uvicorn

    async def front(scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/__counter":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": str(counter).encode()})
            return
        await app(scope, receive, send)

    sock = socket.create_server(("127.0.0.1", 0))
    announce(sock.getsockname()[1])
    uvicorn.Server(uvicorn.Config(front, log_level="critical", access_log=False)).run(sockets=[sock])


def serve_wsgi(app):
    """Serves a WSGI app on waitress, with the counter in front of it."""
    import logging

    import waitress.server

    def front(environ, start_response):
        if environ["PATH_INFO"] == "/__counter":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(counter).encode()]
        return app(environ, start_response)

    logging.disable(logging.CRITICAL)
    server = waitress.server.create_server(front, host="127.0.0.1", port=0, threads=4)
    announce(server.effective_port)
    sys.stdout.flush()
    server.run()
