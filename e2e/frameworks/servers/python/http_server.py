"""Python's own http.server with HTTP/1.1. Its handler for GET does not read a body, as in most such
servers, so what follows the headers is the next request of the connection."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import rig


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self):
        path = unquote(urlsplit(self.path).path).rstrip("/")
        if path == "/__counter":
            text = str(rig.counter)
        else:
            name = {"/orders/1": "orders"}.get(path, path.removeprefix("/"))
            text = rig.answer(name, self.command, self.headers.get("Host", "").partition(":")[0])
        body = (text or "").encode()
        self.send_response(200 if text else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_OPTIONS = respond

    def write(self):
        if self.headers.get("Content-Length", "").isdecimal():
            self.rfile.read(int(self.headers["Content-Length"]))
        self.respond()

    do_POST = do_PUT = do_PATCH = do_DELETE = write

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
rig.announce(server.server_port)
server.serve_forever()
