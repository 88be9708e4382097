"""Clients: those whose requests must not fail, and those that misbehave or meet misbehaving hosts."""

import asyncio
import collections
import random
import ssl

from hosts import BIG, BREAKS, response_body, read_body, read_head, reset

PATIENCE = 40

# Bodies consist of requests, so that a body that is read as the next request shows.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: mixed.test\r\n\r\n"


class World:
    """The address that clients use, the outcome of their requests, and when they stop."""

    def __init__(self, port, tls_port, certificate):
        self.ports = {False: port, True: tls_port}
        self.trust = ssl.create_default_context(cafile=certificate)
        self.over = asyncio.Event()
        self.outcomes = collections.Counter()
        self.sound = 0
        # The path of each sound request that failed, and how.
        self.failures = []
        # Wrong responses to valid requests: refusals by the proxy, or responses to another request.
        self.wrong = []
        self.handshakes = 0

    async def connect(self, tls=False):
        extra = {"ssl": self.trust, "server_hostname": "localhost"} if tls else {}
        return await asyncio.open_connection("127.0.0.1", self.ports[tls], limit=1 << 20, **extra)

    async def pause(self, seconds):
        try:
            await asyncio.wait_for(self.over.wait(), seconds)
        except TimeoutError:
            pass


def head(method, path, host, *fields):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    return "\r\n".join(lines).encode()


async def read_response(reader, method="GET"):
    """The status, the fields and the body of the next final response."""
    while True:
        start, fields = await read_head(reader)
        status = int(start.split(" ")[1])
        if status >= 200:
            break
    has_body = method != "HEAD" and status not in (204, 304)
    body = await read_body(reader, fields, until_close=True) if has_body else b""
    return status, fields, body


def check(world, path, sent, status, got):
    """Records a response that a valid request cannot get, whatever the hosts do."""
    expected = response_body(path, sent)
    # If a host ends its response by closing, a part of the response looks complete.
    is_own = expected.startswith(got) if "until_close" in path else got == expected
    if status not in (200, 401, 502, 503, 504) or (status == 200 and not is_own):
        world.wrong.append(f"{path}: status {status}, {len(got)} bytes")


def ends(fields):
    return "close" in fields.get("connection", "").lower()


async def sound(world, number, keeps, tls=False):
    """Sends requests that at least one host can serve; every one has to succeed at the first try."""
    chance = random.Random(f"sound {number}")
    connection = None
    while not world.over.is_set():
        world.sound += 1
        kind = chance.choice(["small", "small", "small", "chunks", "upload"])
        path, body = f"/{kind}/{number}/{world.sound}", b""
        method = "GET"
        if kind == "upload":
            method, body = "PUT", chance.randbytes(10_000)
        fields = [f"Content-Length: {len(body)}"] if body else []
        fields += [] if keeps else ["Connection: close"]
        is_kept = connection is not None
        try:
            async with asyncio.timeout(PATIENCE):
                connection = connection or await world.connect(tls)
                reader, writer = connection
                writer.write(head(method, path, "sound.test", *fields) + body)
                status, fields, got = await read_response(reader)
            if status != 200 or got != response_body(path, body):
                world.failures.append((path, f"{method}, status {status}, {len(got)} bytes"))
            if ends(fields):
                writer.close()
                connection = None
        except (*BREAKS, TimeoutError) as error:
            world.failures.append((path, f"{method}, connection {'kept' if is_kept else 'new'}: {error!r}"))
            if connection:
                connection[1].transport.abort()
            connection = None
        await world.pause(0.02)
    if connection:
        connection[1].close()


async def kept(world, chance, reader, writer):
    for number in range(chance.randrange(1, 40)):
        kind = chance.choice(["small", "small", "chunks", "big", "until_close", "upload"])
        method, body, fields = "GET", b"", []
        if kind == "upload":
            method, body = chance.choice(["POST", "PUT"]), SMUGGLED * chance.choice([1, 100, 2_000])
            fields = [f"Content-Length: {len(body)}"]
        path = f"/{kind}/{number}"
        writer.write(head(method, path, "mixed.test", *fields))
        if body and chance.random() < 0.5:
            # The response of a host that does not wait for the body may come at the same time.
            await asyncio.sleep(chance.uniform(0, 0.005))
        writer.write(body)
        status, fields, got = await read_response(reader)
        check(world, path, body, status, got)
        world.outcomes["kept, each request", status] += 1
        if ends(fields):
            break
    return "done"


async def single(world, chance, reader, writer):
    writer.write(head(chance.choice(["GET", "HEAD"]), "/small/1", "mixed.test", "Connection: close"))
    return len(await reader.read()) > 0


async def drips(world, chance, reader, writer):
    for byte in head("GET", "/small/1", "mixed.test"):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.005)
    return (await read_response(reader))[0]


async def reads_slowly(world, chance, reader, writer):
    writer.write(head("GET", "/big/1", "mixed.test", "Connection: close"))
    got = 0
    while piece := await reader.read(32 << 10):
        got += len(piece)
        await asyncio.sleep(0.02)
    return "whole" if got > BIG else "cut"


async def leaves_during_the_response(world, chance, reader, writer):
    writer.write(head("GET", "/big/1", "mixed.test"))
    await reader.read(chance.choice([1, 20_000]))
    chance.choice([reset, lambda writer: writer.close()])(writer)


async def leaves_before_the_response(world, chance, reader, writer):
    writer.write(head("GET", "/small/1", "mixed.test"))
    await asyncio.sleep(chance.uniform(0, 0.05))
    chance.choice([reset, lambda writer: writer.close()])(writer)


async def aborts_an_upload(world, chance, reader, writer):
    if chance.random() < 0.5:
        writer.write(head("POST", "/upload/1", "mixed.test", "Content-Length: 1000000"))
        writer.write(bytes(chance.randrange(500_000)))
    else:
        writer.write(head("POST", "/upload/1", "mixed.test", "Transfer-Encoding: chunked"))
        writer.write(b"2710\r\n" + bytes(chance.randrange(9_000)))
    await asyncio.sleep(chance.uniform(0, 0.05))
    chance.choice([reset, lambda writer: writer.close()])(writer)


async def uploads(world, chance, reader, writer):
    writer.write(head("POST", "/upload/1", "mixed.test", f"Content-Length: {2 * BIG}") + bytes(2 * BIG))
    return (await read_response(reader))[0]


async def pipelines(world, chance, reader, writer):
    writer.write(b"".join(head("GET", f"/small/{number}", "mixed.test") for number in range(5)))
    for number in range(5):
        status, fields, got = await read_response(reader)
        check(world, f"/small/{number}", b"", status, got)
        if ends(fields):
            break
    return status


async def sends_an_oversized_head(world, chance, reader, writer):
    writer.write(head("GET", "/small/1", "mixed.test", f"X-Large: {'x' * chance.choice([40_000, 200_000])}"))
    return (await read_response(reader))[0]


async def sends_garbage(world, chance, reader, writer):
    writer.write(chance.randbytes(chance.randrange(1, 3_000)) + b"\r\n\r\n")
    return (await reader.read(12))[-3:].decode("latin-1")


async def stops_within_a_head(world, chance, reader, writer):
    request = head("GET", "/small/1", "mixed.test")
    writer.write(request[:chance.randrange(len(request))])
    await asyncio.sleep(chance.uniform(0, 0.1))
    chance.choice([reset, lambda writer: writer.close()])(writer)


async def sends_nothing(world, chance, reader, writer):
    await asyncio.sleep(chance.uniform(0, 2))


# The function of each kind, its number of clients, and the pause of each.
MIXED = {
    kept: (6, 0.05), single: (4, 0.05), drips: (2, 0.1), reads_slowly: (2, 0.1), leaves_during_the_response: (2, 0.1),
    leaves_before_the_response: (2, 0.05), aborts_an_upload: (2, 0.1), uploads: (2, 0.2), pipelines: (2, 0.1),
    sends_an_oversized_head: (1, 0.2), sends_garbage: (1, 0.1), stops_within_a_head: (2, 0.05), sends_nothing: (3, 0.1),
}


async def mixed(world, kind, number, pause):
    """Connects and acts according to its kind, repeatedly. Every third connection uses TLS."""
    chance = random.Random(f"{kind.__name__} {number}")
    while not world.over.is_set():
        tls = chance.random() < 1 / 3
        writer = None
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await world.connect(tls)
                outcome = await kind(world, chance, reader, writer)
        except BREAKS as error:
            outcome = type(error).__name__
        except TimeoutError:
            outcome = "no end"
        if writer:
            writer.close()
        world.outcomes[kind.__name__, outcome] += 1
        await world.pause(pause * chance.uniform(0.5, 1.5))


async def breaks_handshakes(world):
    """Sends the start of a handshake, or other bytes, to the TLS listener, and leaves."""
    chance = random.Random("handshakes")
    while not world.over.is_set():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", world.ports[True])
            first = chance.choice([b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", chance.randbytes(50), b""])
            writer.write(first)
            await world.pause(chance.uniform(0, 0.2))
            chance.choice([reset, lambda writer: writer.close()])(writer)
            world.handshakes += 1
        except OSError:
            pass
        await world.pause(0.05)


def start(world):
    """Starts all clients; returns their tasks."""
    tasks = [sound(world, number, keeps=True) for number in range(6)]
    tasks += [sound(world, 10 + number, keeps=False) for number in range(2)]
    tasks += [sound(world, 20, keeps=True, tls=True), sound(world, 21, keeps=False, tls=True)]
    for kind, (count, pause) in MIXED.items():
        tasks += [mixed(world, kind, number, pause) for number in range(count)]
    tasks.append(breaks_handshakes(world))
    return [asyncio.create_task(task) for task in tasks]
