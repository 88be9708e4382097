#!/usr/bin/env python3
"""CPU seconds per proxied request: ballast compared with nginx, interleaved in one run.

    cargo build --release && benches/cpu_per_request.py
    benches/cpu_per_request.py --beside target/pgo/ballast           # also another build of ballast
    cargo build --release && benches/cpu_per_request.py --observed   # ballast with and without all observers
    cargo build --release && benches/cpu_per_request.py --edited     # ballast with and without ten header operations

All proxies have one worker and use the same backend (an nginx that responds with 1 KiB from memory); requests have the
three fields that curl sends. In the comparison with nginx, wrk keeps 64 connections to one proxy at a time and the
proxies alternate. In the comparison of ballast with itself, where single percents matter, ballast off and ballast on
share one processor and are loaded at the same time, with 16 connections each: the scheduler interleaves them within
milliseconds, and other load on the machine affects both equally. Each round starts new processes, because the position
of a process's memory in the caches can change its result by some percent.

The script measures the processor time of all threads of the proxy, not wall time; the backend and wrk are excluded.
Everything listens on loopback, and the script ends every process that it starts.
"""

import argparse
import contextlib
import http.server
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "compare"))

from rig import Rig, free_port, need
from usage import family

FIELDS = ["-H", "User-Agent: curl/8.14.1", "-H", "Accept: */*"]
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

# All observers of requests: metrics scraped each second, a log line for each request, traces of a tenth of them.
OBSERVED = BALLAST + """
admin: {{ address: "127.0.0.1:{admin}" }}
access_log: {{ path: "{folder}/access.log", format: json }}
tracing: {{ sample: 10%, otlp: {{ endpoint: "http://127.0.0.1:{collector}" }} }}
"""

# Ten operations on header fields, in both directions, with variables.
EDITED = BALLAST + """
routes:
  - pool: web
    request_headers:
      set: {{ X-A: a, X-Client: "{{client_ip}}", X-B: b }}
      add: {{ X-Shop: "{{host}}" }}
      remove: [X-C]
    response_headers:
      set: {{ X-D: d, Cache-Control: no-store }}
      add: {{ X-Pool: "{{pool}}" }}
      remove: [Server, X-Powered-By]
"""


def main():
    options = arguments()
    nginx, wrk = need("nginx", "nginx-light"), need("wrk", "wrk")
    measure = observed if options.observed else edited if options.edited else beside_nginx
    ballast = options.ballast.resolve()
    if not ballast.is_file():
        sys.exit(f"{ballast} is not there; build it with `cargo build --release`")
    with tempfile.TemporaryDirectory(prefix="ballast-cpu-") as folder:
        rig = Bench(folder)
        try:
            measure(options, rig, nginx, wrk, ballast)
        finally:
            rig.end()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = pathlib.Path(__file__).resolve().parent.parent
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    parser.add_argument("--ballast", type=pathlib.Path, default=target / "release/ballast")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--algorithm", default="round_robin")
    parser.add_argument("--beside", type=pathlib.Path, help="another binary of ballast, such as target/pgo/ballast")
    parser.add_argument("--observed", action="store_true", help="compare with everything that watches requests on")
    parser.add_argument("--edited", action="store_true", help="compare with ten header operations")
    help_before = "with --observed and --edited: another binary of ballast, beside both"
    parser.add_argument("--before", type=pathlib.Path, help=help_before)
    return parser.parse_args()


class Bench(Rig):
    """The servers of this measurement."""

    def end(self, first=0):
        super().end(first)
        # At about ten thousand lines per second.
        (self.folder / "access.log").unlink(missing_ok=True)

    def backend(self, nginx):
        port = free_port()
        config = self.write("backend.conf", BACKEND.format(folder=self.folder, port=port, body=BODY))
        self.start([nginx, "-c", config, "-p", self.folder], port)
        return port

    def ballast(self, binary, name, template, **values):
        port = free_port()
        config = self.write(f"{name}.yaml", template.format(folder=self.folder, port=port, **values))
        return name, port, [self.start([binary, "run", "-c", config], port)]


def beside_nginx(options, rig, nginx, wrk, ballast):
    backend, port = rig.backend(nginx), free_port()
    ours = rig.ballast(ballast, "ballast", BALLAST, backend=backend, algorithm=options.algorithm)
    contenders = [ours]
    if options.beside:
        beside = options.beside.resolve()
        contenders.append(rig.ballast(beside, "beside", BALLAST, backend=backend, algorithm=options.algorithm))
    config = rig.write("nginx.conf", NGINX.format(folder=rig.folder, port=port, backend=backend))
    theirs = rig.start([nginx, "-c", config, "-p", rig.folder], port)
    results = compare(options, wrk, [*contenders, ("nginx", port, family(theirs))])
    tell_ratio(results, "ballast", "nginx")
    if options.beside:
        tell_ratio(results, "beside", "ballast")


def observed(options, rig, nginx, wrk, ballast):
    with collector() as port:
        beside_itself(options, rig, nginx, wrk, ballast, OBSERVED, admin=free_port(), collector=port)


def edited(options, rig, nginx, wrk, ballast):
    beside_itself(options, rig, nginx, wrk, ballast, EDITED)


def beside_itself(options, rig, nginx, wrk, ballast, template, **values):
    """Compares ballast with the settings of `template` to ballast without them."""
    processor = free_a_processor()
    values |= {"backend": rig.backend(nginx), "algorithm": options.algorithm}
    wanted = [("off", ballast, BALLAST), ("on", ballast, template)]
    if options.before:
        wanted.append(("before", options.before.resolve(), BALLAST))
    results = compare_at_once(options, rig, wrk, processor, wanted, values)
    for one in sorted(results.keys() - {"before"}):
        for other in sorted(results.keys() - {"on", one}):
            ratios = [mine / theirs for mine, theirs in zip(results[one], results[other])]
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"ratio {one} / {other}: {middle:.3f} (median of the rounds; half of them from {low:.3f} to {high:.3f})")


def free_a_processor():
    """Keeps this process and its future children off one processor, and returns it (if there is only one, that one)."""
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or [first])
    return first


def move(processor, pids):
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), [processor])


def compare_at_once(options, rig, wrk, processor, wanted, values):
    """Loads all contenders at the same time; returns each one's CPU per request by round, in microseconds."""
    results = {name: [] for name, _, _ in wanted}
    print(f"{'round':>5}" + "".join(f"{name:>10}" for name in results) + "   us/request")
    for number in range(1, options.rounds + 1):
        # The contender that comes first in one round comes last in the next.
        wanted.reverse()
        started = len(rig.processes)
        contenders = [rig.ballast(binary, name, template, **values) for name, binary, template in wanted]
        move(processor, [pid for _, _, pids in contenders for pid in pids])
        with scraper(values["admin"]) if "admin" in values else contextlib.nullcontext():
            load_at_once(wrk, contenders, 1)
            round_results = load_at_once(wrk, contenders, options.seconds)
        rig.end(started)
        for name, each in results.items():
            each.append(round_results[name])
        print(f"{number:>5}" + "".join(f"{each[-1]:>10.2f}" for each in results.values()), flush=True)
    for name, each in results.items():
        print(f"{name:>8}: median {statistics.median(each):.2f}, least {min(each):.2f} us/request")
    return results


def load_at_once(wrk, contenders, seconds):
    """The CPU per request of each contender, in microseconds."""
    before = [cpu_seconds(pids) for _, _, pids in contenders]
    runs = [start_load(wrk, port, seconds, 16) for _, port, _ in contenders]
    requests = [requests_of(run) for run in runs]
    used = [cpu_seconds(pids) - since for (_, _, pids), since in zip(contenders, before)]
    names = [name for name, _, _ in contenders]
    return {name: seconds / count * 1e6 for name, seconds, count in zip(names, used, requests)}


@contextlib.contextmanager
def collector():
    """Accepts every request, as a trace collector does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextlib.contextmanager
def scraper(admin):
    """Scrapes the metrics each second."""
    ended = threading.Event()

    def scrape():
        while not ended.wait(1):
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as answer:
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def compare(options, wrk, contenders):
    """Loads the contenders in turn; returns each one's CPU per request by round, in microseconds."""
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
    for name, values in results.items():
        print(f"{name:>8}: median {statistics.median(values):.2f}, least {min(values):.2f} us/request")
    return results


def tell_ratio(results, one, other):
    """The minimum approximates an undisturbed machine."""
    median = statistics.median(results[one]) / statistics.median(results[other])
    least = min(results[one]) / min(results[other])
    print(f"ratio {one} / {other}: of the medians {median:.2f}, of the least {least:.2f}")


def load(wrk, port, seconds):
    """Runs wrk and returns how many requests got a response."""
    return requests_of(start_load(wrk, port, seconds, 64))


def start_load(wrk, port, seconds, connections):
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", *FIELDS, f"http://127.0.0.1:{port}/"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def requests_of(run):
    """How many requests of a wrk run got a response; any failure ends the measurement."""
    output, _ = run.communicate()
    if run.returncode != 0 or "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"requests failed, so there is nothing to compare:\n{output}")
    return int(re.search(r"(\d+) requests in", output).group(1))


def cpu_seconds(pids):
    """The processor time of all threads of these processes; none of them ends during the measurement."""
    tasks = [task for pid in pids for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


if __name__ == "__main__":
    main()
