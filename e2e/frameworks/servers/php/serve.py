#!/usr/bin/env python3
"""Becomes a web server that runs one of the PHP applications here, without a php.ini, as PHP's own container image is.

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
# As the documentation of Slim has it for lighttpd.
url.rewrite-if-not-file = ("(.*)" => "/index.php/$0")
"""


def watch(stderr, folder, announced):
    """Says where the server listens, and removes its folder when it has ended and so has closed its stderr."""
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
    open(os.path.join(folder, "php.ini"), "w").close()  # an empty one, so that none of the system's is found
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
        # Without a script that routes, as Slim and Flight tell people to start it; Laravel comes with one.
        command = ["php", "-S", "127.0.0.1:0", "-t", root] + [root + "/index.php"] * (application == "laravel")

    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()  # outlives the server's process group, and so removes the folder whoever ends it
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
