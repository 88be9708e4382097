"""Hosts that misbehave at random, and the messages that they and the clients exchange."""

import asyncio
import random
import re
import socket
import struct
import time
import zlib

BIG = 1 << 20
CHUNKS = 100_000
PIECE = 16 << 10

# How long after a response a connection may be reset: a reset discards bytes that have not been delivered yet.
DELIVERED = 1

# The targets of clients. A host that gets another target got a body or garbage as a request.
KNOWN = re.compile(r"(GET|HEAD|POST|PUT) /(small|big|chunks|until_close|upload)/[0-9/]+ HTTP/1\.1")

# The errors of a client or a host when the other side fails.
BREAKS = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)


def reset(writer):
    """Ends a connection with a reset."""
    if writer.transport.is_closing():
        return
    plain = writer.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def response_body(path, body):
    """The body of a valid response. It depends on the request, so that a mix-up shows."""
    own = f"{path} {zlib.crc32(body)}\n".encode()
    size = {"big": BIG, "chunks": CHUNKS}.get(path.split("/")[1], len(own))
    return (own * (size // len(own) + 1))[:size]


async def read_head(reader):
    """The start line and the fields of a message; their names in lower case."""
    head = await reader.readuntil(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").rstrip().split("\r\n")
    pairs = [line.split(":", 1) for line in lines]
    return start, {name.lower(): value.strip() for name, value in pairs}


async def read_body(reader, fields, until_close=False):
    if "chunked" in fields.get("transfer-encoding", ""):
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return body
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    return await reader.read() if until_close else b""


class Host:
    """A host whose mode changes at random among the given ones; it starts and ends with the first one."""

    def __init__(self, port, modes, seed):
        self.port = port
        self.modes = modes
        self.mode = modes[0]
        self.random = random.Random(seed)
        self.changed = asyncio.Event()
        self.server = None
        # The time since which each connection has had no request; None while it has one.
        self.connections = {}
        self.requests = 0
        # Start lines of requests that no client sent.
        self.strange = []

    async def open(self):
        if self.server is None:
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port, limit=1 << 20, backlog=1024)

    async def close(self):
        """Refuses connections and closes those that have no request. The others end with their responses."""
        if self.server is not None:
            self.server.close()
            self.server = None
        for writer, resting in list(self.connections.items()):
            if resting is None:
                continue
            if time.monotonic() - resting > DELIVERED and self.random.random() < 0.5:
                reset(writer)
            else:
                writer.close()

    async def become(self, mode):
        self.mode = mode
        # Requests that hang end now.
        self.changed.set()
        self.changed = asyncio.Event()
        await (self.close() if mode == "away" else self.open())

    async def live(self, over):
        """Changes the mode until the end of the run."""
        while not over.is_set() and len(self.modes) > 1:
            mode = self.random.choice(self.modes)
            await self.become(mode)
            # Some hosts hang for longer than the proxy waits.
            longest = 8 if mode == "hang" else 2
            try:
                await asyncio.wait_for(over.wait(), self.random.uniform(0.2, longest))
            except TimeoutError:
                pass
        await self.become(self.modes[0])

    async def serve(self, reader, writer):
        self.connections[writer] = time.monotonic()
        try:
            keep = True
            while keep and self.server is not None:
                start, fields = await read_head(reader)
                self.connections[writer] = None
                self.requests += 1
                if not KNOWN.fullmatch(start):
                    self.strange.append(start)
                keep = await self.respond(start, fields, reader, writer)
                self.connections[writer] = time.monotonic()
            writer.close()
        except BREAKS:
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            del self.connections[writer]

    async def respond(self, start, fields, reader, writer):
        """Responds to a request or fails to; returns whether the connection is kept."""
        method, path, _ = start.split(" ")
        mode = self.mode
        if mode == "reset":
            reset(writer)
            return False
        if mode == "early" and method in ("POST", "PUT"):
            # Unread bytes of the body turn the close into a reset.
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return False
        body = await read_body(reader, fields)
        if mode == "hang":
            await self.changed.wait()
            return False
        if mode == "fail":
            writer.write(b"HTTP/1.1 503 Failing\r\nContent-Length: 0\r\n\r\n")
            return True
        if mode == "garbage":
            writer.write(self.random.randbytes(200) + b"\r\n\r\n")
            return False
        if mode == "slow":
            await asyncio.sleep(self.random.uniform(0.05, 0.5))
        answer = response_body(path, body)
        kind = path.split("/")[1]
        head = "HTTP/1.1 200 OK\r\nX-Port: %d\r\n" % self.port
        if kind == "chunks":
            pieces = [answer[at:at + PIECE] for at in range(0, len(answer), PIECE)]
            answer = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            head += "Transfer-Encoding: chunked\r\n"
        elif kind != "until_close":
            head += f"Content-Length: {len(answer)}\r\n"
        message = f"{head}\r\n".encode() + answer
        if mode == "cut":
            writer.write(message[:self.random.randrange(len(message))])
            await writer.drain()
            if self.random.random() < 0.5:
                reset(writer)
            return False
        if mode == "slow":
            # The head comes in pieces.
            for at in range(0, 60, 20):
                writer.write(message[at:at + 20])
                await asyncio.sleep(0.01)
            message = message[60:]
        writer.write(message)
        await writer.drain()
        return kind != "until_close"
