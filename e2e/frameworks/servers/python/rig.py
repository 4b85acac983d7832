"""What the Python servers of the rig share: the counter, what writes, and the line that announces
the port."""

import itertools
import logging
import socket

METHODS = ("POST", "PUT", "PATCH", "DELETE")
TENANT = "orders.test"  # the host on which /tenant writes

logging.disable(logging.CRITICAL)
_ids = itertools.count(1)
counter = 0


def write() -> str:
    global counter
    counter = next(_ids)
    return str(counter)


def answer(resource: str, method: str, host: str = "") -> str | None:
    """Reads or writes, as the request asks. Returns None if there is no such resource.

    resource is the name that the router of the framework found: orders, search, login, tenant,
    logout or healthz.
    """
    writes = method in METHODS
    match resource:
        case "orders":
            pass
        case "search" | "login":
            writes = writes and method != "POST"
        case "tenant":
            writes = writes and host == TENANT
        case "logout":
            writes = method == "GET"
        case "healthz":
            writes = False
        case _:
            return None
    return write() if writes else "read"


def announce(port: int):
    print(f"listening 127.0.0.1:{port}", flush=True)


def serve_gunicorn(app):
    """Serves a WSGI app on gunicorn with its defaults, except for threads: its one process has the
    counter."""
    import gunicorn.app.base

    class Application(gunicorn.app.base.BaseApplication):
        def load_config(self):
            self.cfg.set("bind", "127.0.0.1:0")
            self.cfg.set("worker_class", "gthread")
            self.cfg.set("threads", 8)
            self.cfg.set("when_ready", lambda server: announce(server.LISTENERS[0].sock.getsockname()[1]))

        def load(self):
            return app

    Application().run()


def serve_waitress(app):
    """Serves a WSGI app on waitress, which trusts what a proxy forwards."""
    import waitress.server

    server = waitress.server.create_server(
        app, host="127.0.0.1", port=0, threads=8, clear_untrusted_proxy_headers=False,
        trusted_proxy="*", trusted_proxy_headers={"forwarded"},
    )
    announce(server.effective_port)
    server.run()


def serve_uvicorn(app):
    """Serves an ASGI app on uvicorn, which trusts what a proxy forwards."""
    import uvicorn

    sock = socket.create_server(("127.0.0.1", 0))
    announce(sock.getsockname()[1])
    config = uvicorn.Config(app, log_level="critical", access_log=False, proxy_headers=True, forwarded_allow_ips="*")
    uvicorn.Server(config).run(sockets=[sock])
