#!/usr/bin/env python3
"""Becomes a web server that runs one of the PHP applications here, without a php.ini, as in the
container image of PHP.

Started as: python3 servers/php/serve.py builtin slim
            python3 servers/php/serve.py builtin laravel
            python3 servers/php/serve.py builtin flight
            python3 servers/php/serve.py lighttpd slim
            python3 servers/php/serve.py lighttpd laravel
"""
import os
import re
import shutil
import socket
import sys
import tempfile

LIGHTTPD = """
server.modules = ("mod_rewrite", "mod_setenv", "mod_cgi")
server.document-root = "{root}"
server.systemd-socket-activation = "enable"
server.bind = "127.0.0.1"
server.port = {port}
server.upload-dirs = ("{folder}")
index-file.names = ("index.php")
cgi.assign = (".php" => "/usr/bin/php-cgi")
setenv.set-environment = ("COUNTER" => env.COUNTER, "PHPRC" => env.PHPRC)
# From the documentation of Slim for lighttpd.
url.rewrite-if-not-file = ("(.*)" => "/index.php/$0")
"""


def watch(stderr, folder, announced):
    """Announces where the server listens. When the server has ended, and so has closed its stderr,
    removes its folder."""
    complaints = os.fdopen(stderr, errors="replace")
    for line in complaints:
        started = re.search(r"Development Server \(http://(127\.0\.0\.1:\d+)\) started", line)
        if started:
            announced = started[1]
            print("listening", announced, flush=True)
        if not announced:
            sys.stderr.write(line)
    shutil.rmtree(folder, ignore_errors=True)


def main():
    server, application = sys.argv[1:]
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), application)
    folder = tempfile.mkdtemp(prefix="drydock-php-")
    open(os.path.join(folder, "php.ini"), "w").close()  # an empty file, so that the one of the system is not used
    os.environ.update(COUNTER=os.path.join(folder, "counter"), PHPRC=folder)
    address = ""
    if server == "lighttpd":
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        port = listener.getsockname()[1]
        address = f"127.0.0.1:{port}"
        config = os.path.join(folder, "lighttpd.conf")
        with open(config, "w") as f:
            f.write(LIGHTTPD.format(root=root, port=port, folder=folder))
        command = ["/usr/sbin/lighttpd", "-D", "-f", config]
    else:
        # Slim and Flight are documented to be started without a script that routes. Laravel comes
        # with one.
        command = ["php", "-S", "127.0.0.1:0", "-t", root] + [root + "/index.php"] * (application == "laravel")

    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()  # a session of its own, so that it removes the folder whatever ends the server
        os.close(theirs)
        watch(ours, folder, address)
        os._exit(0)
    os.dup2(theirs, 2)
    if address:
        print("listening", address, flush=True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
    os.execvp(command[0], command)


main()
