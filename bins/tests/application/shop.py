"""The shop's front end: HTTP in front, Redis behind. Ends at once when it is told to, as ordinary servers do."""
import os
import signal
import socket
import threading

VERSION = os.environ["VERSION"]
GREETING = os.environ["GREETING"]
NAME = socket.gethostname()


class Redis:
    """One service by its name. Connections are kept and used again."""

    def __init__(self, name):
        self.name, self.idle = name, []

    def ask(self, *words):
        while True:
            try:
                stream = self.idle.pop()
            except IndexError:
                break
            try:
                return self.ask_on(stream, words)
            except OSError:
                pass  # It ended while nobody used it.
        stream = socket.create_connection((self.name, 6379), timeout=5).makefile("rwb")
        exchange(stream, ("AUTH", os.environ["REDIS_PASSWORD"]))
        return self.ask_on(stream, words)

    def ask_on(self, stream, words):
        reply = exchange(stream, words)
        self.idle.append(stream)
        return reply


def exchange(stream, words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    stream.write(b"".join(parts))
    stream.flush()
    head = stream.readline()
    if not head.endswith(b"\r\n"):
        raise OSError("redis hung up")
    kind, reply = head[:1], head[1:-2]
    if kind == b"-":
        raise ValueError(reply.decode())
    if kind == b"$":
        length = int(reply)
        reply = None if length < 0 else stream.read(length + 2)[:-2]
    return reply


LEADER, FOLLOWER = Redis("redis-leader"), Redis("redis-follower")


def answer(method, path, body):
    if path == "/healthz":
        return 200, b"ok"
    if path == "/version":
        return 200, f"{VERSION} {NAME}".encode()
    if path == "/greeting":
        return 200, GREETING.encode()
    if path.startswith("/items/") and method == "PUT":
        return 200, LEADER.ask("SET", path[7:], body)
    if path.startswith("/items/"):
        item = FOLLOWER.ask("GET", path[7:])
        return (404, b"no such item") if item is None else (200, item)
    return 404, b"no such page"


def serve(connection):
    with connection, connection.makefile("rwb") as stream:
        keep = True
        while keep:
            line = stream.readline().decode().split()
            if len(line) != 3:
                return
            headers = {}
            while (header := stream.readline().decode().strip()):
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip().lower()
            body = stream.read(int(headers.get("content-length", 0)))
            keep = line[2] == "HTTP/1.1" and headers.get("connection") != "close"
            try:
                status, text = answer(line[0], line[1], body)
            except (OSError, ValueError) as error:
                status, text = 503, str(error).encode()
            ending = "keep-alive" if keep else "close"
            head = f"HTTP/1.1 {status} .\r\nContent-Length: {len(text)}\r\nConnection: {ending}\r\n\r\n"
            stream.write(head.encode() + text)
            stream.flush()


def serve_until_it_ends(connection):
    try:
        serve(connection)
    except OSError:
        pass  # The client has gone.


# The first process of a container has no default: without this the signal would be ignored.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
listener = socket.create_server(("", 8080), backlog=128)
print(f"version {VERSION} listens", flush=True)
while True:
    accepted, _ = listener.accept()
    threading.Thread(target=serve_until_it_ends, args=(accepted,), daemon=True).start()
