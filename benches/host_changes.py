#!/usr/bin/env python3
"""How long requests wait, and how many fail, while the hosts of a pool are changed.

    python3 benches/host_changes.py [BALLAST] [--algorithm p2c] [--hosts 5000] [--changes 1000] [--pool 200]

One nginx listens on all addresses of 127.0.0.0/8, so each of them is a host. First all hosts are replaced at once; then
a few hosts of a smaller pool are changed again and again. Clients on kept connections ask meanwhile. Printed are the
waits before, during and after, failed requests, and how long the changes took.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import socket
import subprocess
import tempfile
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(port):
    """nginx answers on all addresses: what keeps up with connections to thousands of hosts."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "nginx.conf"
        file.write_text(f"""
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; worker_rlimit_nofile 60000;
events {{ worker_connections 50000; }}
http {{ access_log off; server {{ listen {port} backlog=4096; keepalive_requests 1000000; location / {{ return 200 "ok"; }} }} }}
""")
        process = subprocess.Popen([shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), "-c", file])
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def ask(port, is_over, results):
    """Asks again and again. A process of its own."""
    client, times, failed = None, [], 0
    results.put(None)
    while not is_over.is_set():
        client = client or socket.create_connection(("127.0.0.1", port))
        begin = time.perf_counter()
        client.sendall(f"GET /{random.random()} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
        answer = client.recv(4096)
        times.append(time.perf_counter() - begin)
        if not answer.startswith(b"HTTP/1.1 200"):
            failed += 1
            client.close()
            client = None
        time.sleep(0.001)
    results.put((sorted(times), failed))


@contextlib.contextmanager
def asking(what, port):
    """Prints how long requests take meanwhile."""
    is_over, results = multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=ask, args=(port, is_over, results))
    process.start()
    results.get()
    yield
    is_over.set()
    times, failed = results.get()
    process.join()
    median, p99 = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.99))
    print(f"{what}: median {median:.2f} ms, p99 {p99:.2f} ms, longest {times[-1] * 1000:.1f} ms of {len(times)} "
          f"requests, {failed} failed")


def hosts(network, count, port):
    return [f"127.{network}.{number // 250}.{number % 250 + 1}:{port}" for number in range(count)]


def write(file, addresses):
    new = file.with_suffix(".new")
    new.write_text("\n".join(addresses) + "\n")
    new.rename(file)


def members(ballast, config):
    """The ids of the pool's hosts, and how many are usable."""
    shown = subprocess.run([ballast, "status", "--json", "-c", config], capture_output=True, text=True, check=True)
    pool = json.loads(shown.stdout)["pools"][0]
    return {host["id"] for host in pool["hosts"]}, pool["usable"]


def wait_for(ballast, config, addresses):
    begin, wanted = time.perf_counter(), set(addresses)
    while members(ballast, config) != (wanted, len(wanted)):
        time.sleep(0.2)
    return time.perf_counter() - begin


@contextlib.contextmanager
def running(args, folder, addresses, port, host_port):
    file, config = folder / "web.hosts", folder / "ballast.yaml"
    write(file, addresses)
    config.write_text(f"""
server: {{ pid_file: {folder}/pid, control_socket: {folder}/control, upgrade_socket: {folder}/upgrade }}
listeners: ["127.0.0.1:{port}"]
limits: {{ max_requests_per_connection: 0 }}
discovery: {{ state_directory: none }}
pools: {{ web: {{ algorithm: {args.algorithm}, hosts_file: {file}, health_check: {{ interval: 10s }} }} }}
""")
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen([args.ballast, "run", "-c", config], stderr=log)
    try:
        while "listening on" not in (folder / "log").read_text():
            time.sleep(0.1)
        yield file, config
    finally:
        process.terminate()
        process.wait()


def replace(args, folder, host_port):
    port = free_port()
    old, new = (hosts(network, args.hosts, host_port) for network in (1, 2))
    with running(args, folder, old, port, host_port) as (file, config):
        wait_for(args.ballast, config, old)
        with asking(f"{args.hosts} hosts, no change", port):
            time.sleep(3)
        with asking("while all are replaced", port):
            write(file, new)
            took = wait_for(args.ballast, config, new)
        print(f"replaced after {took:.1f} s")


def change(args, folder, host_port):
    port = free_port()
    everyone = hosts(3, 2 * args.pool, host_port)
    chosen = random.Random(7)
    with running(args, folder, everyone[:args.pool], port, host_port) as (file, config):
        with asking(f"{args.pool} hosts, {args.changes} changes", port):
            begin = time.perf_counter()
            for _ in range(args.changes):
                write(file, chosen.sample(everyone, args.pool))
                time.sleep(args.pause)
            took = time.perf_counter() - begin
        taken = (folder / "log").read_text().count("source file ")
        print(f"{args.changes} lists in {took:.1f} s, {taken} taken in")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ballast", nargs="?", default="target/release/ballast")
    parser.add_argument("--algorithm", default="p2c")
    parser.add_argument("--hosts", type=int, default=5000, help="hosts that are replaced at once")
    parser.add_argument("--changes", type=int, default=1000, help="changes of the smaller pool")
    parser.add_argument("--pool", type=int, default=200, help="hosts of the smaller pool")
    parser.add_argument("--pause", type=float, default=0.6, help="seconds between two changes: a file is taken in once it has settled")
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host_port = free_port()
    with serving(host_port):
        for step in (replace, change):
            with tempfile.TemporaryDirectory() as folder:
                step(args, pathlib.Path(folder), host_port)


if __name__ == "__main__":
    main()
