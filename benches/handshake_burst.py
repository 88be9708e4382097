#!/usr/bin/env python3
"""How long requests of open connections wait while many clients begin a TLS handshake at once.

    python3 benches/handshake_burst.py [BALLAST] [--key rsa:2048 | ec:P-256] [--clients 500]

Ballast runs with one worker on a processor of its own, so all connections share it. A client on a plain keep-alive connection asks again and again;
meanwhile each burst sends the same ClientHello on many connections at once, which costs the worker a key exchange and a
signature for each. Printed are the waits without and with bursts, and the handshakes that were computed.
"""

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import socket
import ssl
import subprocess
import tempfile
import time

BURSTS = 5


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def client_hello():
    """The first message of a handshake, as OpenSSL writes it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(received, sent, server_hostname="a.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return sent.read()


def write_certificate(folder, key):
    kind, size = key.split(":")
    options = ["-newkey", key] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{size}"]
    subprocess.run(
        ["openssl", "req", "-x509", *options, "-nodes", "-subj", "/CN=a.test", "-addext", "subjectAltName=DNS:a.test",
         "-days", "2", "-keyout", folder / "a.key", "-out", folder / "a.pem"],
        check=True, stderr=subprocess.DEVNULL)


def write_config(folder, plain, tls):
    file = folder / "ballast.yaml"
    file.write_text(f"""
server: {{ threads: 1, pid_file: {folder}/pid, control_socket: {folder}/control, upgrade_socket: {folder}/upgrade }}
listeners:
  - "127.0.0.1:{plain}"
  - {{ address: "127.0.0.1:{tls}", tls: {{ certificates: {{ certificate: {folder}/a.pem, key: {folder}/a.key }} }} }}
pools: {{ none: {{ hosts: ["127.0.0.1:9"], health_check: none }} }}
limits: {{ max_requests_per_connection: 0 }}
routes: [{{ host: a.test, respond: {{ status: 200, body: "ok" }} }}, {{ pool: none }}]
""")
    return file


def connect(port):
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port))
        time.sleep(0.05)


def ask(port, is_over, results):
    """Asks again and again on one connection. A process of its own, which the clients of the bursts do not delay."""
    with contextlib.suppress(PermissionError):
        os.nice(-20)
    client, times = connect(port), []
    results.put(None)
    while not is_over.is_set():
        begin = time.perf_counter()
        client.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\nok"):
            answer += client.recv(4096)
        times.append(time.perf_counter() - begin)
        time.sleep(0.0005)
    results.put(sorted(times))


@contextlib.contextmanager
def asking(what, port):
    """Prints how long requests take meanwhile."""
    is_over, results = multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=ask, args=(port, is_over, results))
    process.start()
    results.get()
    yield
    is_over.set()
    times = results.get()
    process.join()
    median, p99 = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.99))
    print(f"{what}: median {median:.2f} ms, p99 {p99:.2f} ms, longest {times[-1] * 1000:.2f} ms of {len(times)} requests")


def burst(port, clients, hello):
    """Sends `hello` on all connections at once, and waits until each has got the server's first message. Returns how many
    have, and the seconds that it took."""
    sockets = [connect(port) for _ in range(clients)]
    begin = time.perf_counter()
    for client in sockets:
        client.sendall(hello)
    answers = [client.recv(1) for client in sockets]
    took = time.perf_counter() - begin
    for client in sockets:
        client.close()
    return sum(answer == b"\x16" for answer in answers), took


def measure(plain, tls, clients):
    connect(plain).close()
    with asking("without bursts", plain):
        time.sleep(2)
    hello = client_hello()
    with asking(f"with {BURSTS} bursts", plain):
        bursts = [burst(tls, clients, hello) for _ in range(BURSTS)]
    done, took = (sum(column) for column in zip(*bursts))
    print(f"{done} handshakes of {BURSTS * clients} in {took:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ballast", nargs="?", default="target/release/ballast")
    parser.add_argument("--key", default="rsa:2048", help="rsa:BITS or ec:CURVE")
    parser.add_argument("--clients", type=int, default=500, help="handshakes that begin at once")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_certificate(folder, args.key)
        plain, tls = free_port(), free_port()
        file = write_config(folder, plain, tls)
        subprocess.run([args.ballast, "check", "-c", file], check=True, capture_output=True)
        first, *others = sorted(os.sched_getaffinity(0))
        process = subprocess.Popen([args.ballast, "run", "-c", file], stderr=subprocess.DEVNULL)
        os.sched_setaffinity(process.pid, {first})
        os.sched_setaffinity(0, others or {first})
        try:
            measure(plain, tls, args.clients)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
