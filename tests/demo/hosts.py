#!/usr/bin/env python3
"""The demo's hosts. `hosts.py db ADDRESS PORT` answers queries; `hosts.py web ADDRESS PORT DB-ADDRESS DB-PORT`
answers HTTP and asks the database for every page, as a shop does; `hosts.py ask ADDRESS PORT QUERY` is a client of
the database."""
import http.server
import socket
import socketserver
import sys


def number(text):
    return int(text)


class Database(socketserver.StreamRequestHandler):
    """One line in, one line out."""

    def handle(self):
        for query in self.rfile:
            self.wfile.write(b"3 orders, 2 customers; you asked: " + query)


class Page(http.server.BaseHTTPRequestHandler):
    """A page with what the database says now."""

    database = ("", 0)

    def do_GET(self):
        with socket.create_connection(self.database, timeout=3) as link:
            link.sendall(b"select count(*)\n")
            answer = link.makefile().readline()
        body = ("Welcome to the shop. Today: " + answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def ask(address, port, query):
    try:
        with socket.create_connection((address, port), timeout=2) as link:
            link.sendall(query.encode() + b"\n")
            print(link.makefile().readline().strip())
    except OSError as error:
        sys.exit("no answer from %s port %d: %s" % (address, port, error))


def main():
    what, address, port = sys.argv[1], sys.argv[2], number(sys.argv[3])
    if what == "ask":
        return ask(address, port, sys.argv[4])
    if what == "web":
        Page.database = (sys.argv[4], number(sys.argv[5]))
    Server((address, port), Page if what == "web" else Database).serve_forever()


if __name__ == "__main__":
    main()
