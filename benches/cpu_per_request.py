#!/usr/bin/env python3
"""CPU seconds per proxied request: ballast beside nginx, interleaved in one run.

    cargo build --release && benches/cpu_per_request.py

Both proxies have one worker and stand in front of the same backend (an nginx that answers 1 KiB from memory). wrk keeps
64 connections to one proxy at a time and the proxies alternate, so that whatever else the machine does falls on both.
What is measured is the proxy process's own user and system time from /proc, not wall time; the backend and wrk are not
in it. Everything listens on loopback, and every process that is started here is ended here.
"""

import argparse
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
BODY = "x" * 1024

BACKEND = """
worker_processes 1;
daemon off;
pid {folder}/backend.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/backend-body;
    server {{
        listen 127.0.0.1:{port};
        location / {{ default_type text/plain; return 200 "{body}"; }}
    }}
}}
"""

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    upstream web {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://web;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header X-Request-Id $request_id;
        }}
    }}
}}
"""

BALLAST = """
server: {{ threads: 1 }}
listeners: ["127.0.0.1:{port}"]
pools:
  web:
    algorithm: {algorithm}
    hosts: ["127.0.0.1:{backend}"]
"""


def main():
    options = arguments()
    nginx, wrk = need("nginx"), need("wrk")
    ballast = options.ballast.resolve()
    if not ballast.is_file():
        sys.exit(f"{ballast} is not there; build it with `cargo build --release`")
    processes = []
    with tempfile.TemporaryDirectory(prefix="ballast-cpu-") as folder:
        try:
            measure(options, pathlib.Path(folder), nginx, wrk, ballast, processes)
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    parser.add_argument("--ballast", type=pathlib.Path, default=target / "release/ballast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--algorithm", default="round_robin")
    return parser.parse_args()


def measure(options, folder, nginx, wrk, ballast, processes):
    backend, a, b = free_port(), free_port(), free_port()

    def write(name, template, **values):
        path = folder / name
        path.write_text(template.format(folder=folder, **values))
        return path

    def start(port, command):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)
        processes.append(process)
        wait_for_port(port, process)
        return process

    config = write("backend.conf", BACKEND, port=backend, body=BODY)
    start(backend, [nginx, "-c", config, "-p", folder])
    config = write("ballast.yaml", BALLAST, port=a, backend=backend, algorithm=options.algorithm)
    ours = start(a, [ballast, "run", "-c", config])
    config = write("nginx.conf", NGINX, port=b, backend=backend)
    theirs = start(b, [nginx, "-c", config, "-p", folder])

    contenders = [("ballast", a, [ours.pid]), ("nginx", b, [theirs.pid, *children(theirs.pid)])]
    for _, port, _ in contenders:
        load(wrk, port, 1)

    results = {name: [] for name, _, _ in contenders}
    print(f"{'round':>5} {'proxy':>8} {'requests':>9} {'req/s':>8} {'CPU s':>7} {'us/request':>11}")
    for number in range(1, options.rounds + 1):
        for name, port, pids in contenders:
            before = cpu_seconds(pids)
            requests = load(wrk, port, options.seconds)
            used = cpu_seconds(pids) - before
            each = used / requests * 1e6
            results[name].append(each)
            rate = requests / options.seconds
            print(f"{number:>5} {name:>8} {requests:>9} {rate:>8.0f} {used:>7.2f} {each:>11.2f}", flush=True)
    medians = {name: statistics.median(values) for name, values in results.items()}
    for name, median in medians.items():
        print(f"median {name:>8}: {median:.2f} us/request")
    print(f"ratio ballast / nginx: {medians['ballast'] / medians['nginx']:.2f}")


def load(wrk, port, seconds):
    """Runs wrk and returns how many requests were answered; any failure ends the measurement."""
    command = [wrk, "-t1", "-c64", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"requests failed, so there is nothing to compare:\n{output}")
    return int(re.search(r"(\d+) requests in", output).group(1))


def cpu_seconds(pids):
    """User and system time of the processes so far, their threads included."""
    ticks = 0
    for pid in pids:
        # The name in parentheses may hold blanks; utime and stime are the 12th and 13th fields after it.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def children(pid):
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"{process.args[0]} does not listen on {port}")


def need(program):
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        sys.exit(f"needs {program} (Debian: apt-get install nginx-light wrk)")
    return found


if __name__ == "__main__":
    main()
