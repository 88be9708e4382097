#!/usr/bin/env python3
"""Mixed faults for a chosen time: the resources that ballast holds afterwards, and whether sound requests failed.

    cargo build --release && benches/soak/run.py                     # ten minutes
    benches/soak/run.py --seconds 60 --binary target/debug/ballast
    benches/soak/run.py --seconds 120 --handovers 20                 # with handovers during the run

Some forty clients keep connections, use one per request, drip heads, read slowly, leave at every stage, abort uploads,
pipeline, send too much or garbage, and break TLS handshakes. Hosts reset, hang, break off responses, respond slowly,
badly or too early, go down and return. The configuration is reloaded all the time. At the same time ten clients use a
pool with one host that is always sound, while the other two reset, fail, are slow or down: each request of these
clients has to succeed. No request may get the response to another one, and no body may become a request.

At the end ballast must have released all descriptors, connections and requests in flight. The mean of the resident
memory in the last third may be at most 1.2 times that in the second third (not compared with handovers, because each
process has its own memory). Nothing may have panicked. Everything is on loopback, and the script ends every process
that it starts.
"""

import argparse
import asyncio
import logging
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benches/compare"))

import clients
from hosts import Host
from rig import Rig, find, free_ports, need, run

SOUND = [["sound"], ["well", "reset", "fail", "slow", "away"], ["well", "reset", "fail", "slow", "away"]]
MIXED = [["well", "reset", "hang", "cut", "slow", "fail", "garbage", "early", "away"]] * 5

# How much the memory may grow from the second third to the last.
GROWTH = 1.2

# How long the shutdown may take.
IDLE_TIMEOUT = 60

CONFIG = """
server: {{ threads: 2, http1: {http1}, pid_file: pid, control_socket: control, upgrade_socket: run/upgrade }}
admin: {{ address: "127.0.0.1:{admin}" }}
access_log: {{ path: access.log, format: json }}
listeners:
  - "127.0.0.1:{port}"
  - address: "127.0.0.1:{tls_port}"
    tls: {{ certificates: [{{ certificate: certificate.pem, key: key.pem }}], http2: false }}
timeouts: {{ read: 5s, client_head: 5s, idle: {idle}s }}
routes:
  - {{ host: sound.test, pool: sound }}
  - {{ host: mixed.test, pool: mixed }}
pools:
  sound:
    algorithm: {algorithm}
    hosts: [{sound}]
    health_check: {{ interval: 1s, initial: up }}
    retries: {{ budget: 100%, min: 100 }}
    ejection: {{ base: 1s, max: 2s }}
  mixed:
    algorithm: {algorithm}
    hosts: [{mixed}]
    health_check: {{ interval: 1s, initial: up }}
    ejection: {{ base: 1s, max: 2s }}
    limits: {{ max_in_flight: 20, queue: 20 }}
"""

ALGORITHMS = ["p2c", "least_load", "round_robin", "{ name: p2c, load: peak_ewma }", "random"]


class Ballast:
    """The process that serves, and its predecessors."""

    def __init__(self, rig, options):
        self.rig, self.options = rig, options
        self.folder = rig.folder
        self.port, self.tls_port, self.admin, *self.hosts = free_ports(3 + len(SOUND) + len(MIXED))
        self.reloads = 0
        self.pids = []

    def configure(self):
        """Writes a configuration that differs from the last one: one host more or less, another algorithm."""
        mixed = self.hosts[len(SOUND) + self.reloads % 2:]
        text = CONFIG.format(
            admin=self.admin, port=self.port, tls_port=self.tls_port, http1=self.options.http1, idle=5 + self.reloads % 3,
            algorithm=ALGORITHMS[self.reloads % len(ALGORITHMS)],
            sound=", ".join(f'"127.0.0.1:{port}"' for port in self.hosts[:len(SOUND)]),
            mixed=", ".join(f'"127.0.0.1:{port}"' for port in mixed))
        self.rig.write("new.yaml", text).rename(self.folder / "ballast.yaml")

    async def start(self):
        run(find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", self.folder / "key.pem", "-out", self.folder / "certificate.pem", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        (self.folder / "key.pem").chmod(0o600)
        self.configure()
        os.environ["RUNTIME_DIRECTORY"] = str(self.folder / "run")
        os.environ["BALLAST_LOG"] = "info"
        self.rig.start([self.options.binary, "run", "-c", self.folder / "ballast.yaml"], self.admin)
        # The process opens these last.
        files = [self.folder / name for name in ("pid", "control", "run/upgrade")]
        await wait_until(lambda: all(file.exists() for file in files), "the begin")
        self.pids.append(self.serving())

    def serving(self):
        """The process that serves; 0 before there is one."""
        try:
            return int((self.folder / "pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def log(self, since=0):
        with open(self.folder / "log", "rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    async def reload(self):
        before = (self.folder / "log").stat().st_size
        self.reloads += 1
        self.configure()
        os.kill(self.serving(), signal.SIGHUP)
        await wait_until(lambda: "reloaded" in self.log(before), "a reload")

    async def hand_over(self):
        before = self.serving()
        os.kill(before, signal.SIGQUIT)
        await wait_until(lambda: self.serving() != before, "a handover")
        self.pids.append(self.serving())

    def logged(self, path):
        """The lines of the access log about a request."""
        with open(self.folder / "access.log", errors="replace") as log:
            return [line.strip() for line in log if f'{path}"' in line]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.serving()}/fd"))

    def resident(self):
        """Resident memory in MiB."""
        status = pathlib.Path(f"/proc/{self.serving()}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def metrics(self):
        """The sum of each metric over its series."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        sums = {}
        for line in lines:
            if not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name = series.split("{")[0]
                sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def left(self):
        """Predecessors that have not ended."""
        return [pid for pid in self.pids if pid != self.serving() and runs(pid)]

    def kill(self):
        for pid in self.pids:
            if runs(pid):
                os.kill(pid, signal.SIGKILL)


def runs(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        own = "ballast" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    return own and stat.rsplit(")", 1)[1].split()[0] != "Z"


async def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took more than {seconds} s")
        await asyncio.sleep(0.02)


async def operate(ballast, world, options, problems):
    """Reloads and hands over while clients send requests."""
    begin = time.monotonic()
    handovers = [options.seconds * (number + 1) / (options.handovers + 1) for number in range(options.handovers)]
    next_reload = options.reload
    while not world.over.is_set():
        now = time.monotonic() - begin
        try:
            if handovers and now >= handovers[0]:
                handovers.pop(0)
                await ballast.hand_over()
            elif now >= next_reload:
                next_reload = now + options.reload
                await ballast.reload()
        except TimeoutError as error:
            problems.append(str(error))
        await world.pause(0.1)
    if handovers:
        problems.append(f"{len(handovers)} handovers were not begun in time")


async def sample(ballast, world, options, samples):
    """Samples the process each second."""
    begin = time.monotonic()
    while not world.over.is_set():
        try:
            metrics = await asyncio.to_thread(ballast.metrics)
            row = (time.monotonic() - begin, ballast.resident(), ballast.descriptors(), metrics["ballast_connections"],
                   metrics["ballast_in_flight"])
        except (OSError, urllib.error.URLError, ValueError, KeyError):
            # A handover is under way.
            row = None
        if row:
            samples.append(row)
            if len(samples) % 10 == 1:
                print("%6.0f s | %7.1f MiB | %4d descriptors | %4d connections | %3d in flight | "
                      % row + f"{world.sound} sound, {sum(world.outcomes.values())} mixed", flush=True)
        await world.pause(1)


def check_memory(samples, seconds, problems):
    """Compares the thirds of the run; the first one is the warm-up."""
    thirds = [[row[1] for row in samples if part <= 3 * row[0] / seconds < part + 1] for part in range(3)]
    if not all(thirds):
        return problems.append("too few samples")
    means = [statistics.mean(third) for third in thirds]
    print("resident memory by thirds, mean and most: "
          + ", ".join(f"{mean:.1f} and {max(third):.1f} MiB" for mean, third in zip(means, thirds)))
    if means[2] > GROWTH * means[1]:
        problems.append(f"memory grew from {means[1]:.1f} to {means[2]:.1f} MiB")


async def wait_until_idle(ballast, idle, problems):
    """Waits until the process holds what it held before."""
    names = ["ballast_connections", "ballast_in_flight", "ballast_host_in_flight", "ballast_queue_length"]
    held = {}

    def is_idle():
        held.update({"descriptors": ballast.descriptors(), "predecessors": len(ballast.left())})
        try:
            metrics = ballast.metrics()
            held.update({name: metrics.get(name, 0.0) for name in names})
        except OSError as error:
            held["admin"] = error
            return False
        return held["descriptors"] <= idle and not any(held[name] for name in ["predecessors", *names])

    try:
        await wait_until(is_idle, "an idle process", IDLE_TIMEOUT)
    except TimeoutError as error:
        problems.append(f"{error}; {held}, idle descriptors were {idle}")
    print(f"at rest, {ballast.resident():.1f} MiB: {held}")


async def soak(ballast, options):
    problems, samples = [], []
    modes = SOUND + MIXED
    hosts = [Host(port, modes, seed) for seed, (port, modes) in enumerate(zip(ballast.hosts, modes))]
    for host in hosts:
        await host.open()
    await ballast.start()
    counts = []
    await asyncio.sleep(1)
    for _ in range(20):
        counts.append(ballast.descriptors())
        await asyncio.sleep(0.1)
    # A health check briefly holds one more.
    idle = statistics.mode(counts)
    print(f"idle: {idle} descriptors, {ballast.resident():.1f} MiB", flush=True)
    world = clients.World(ballast.port, ballast.tls_port, ballast.folder / "certificate.pem")
    tasks = clients.start(world)
    tasks += [asyncio.create_task(host.live(world.over)) for host in hosts]
    tasks += [asyncio.create_task(operate(ballast, world, options, problems))]
    tasks += [asyncio.create_task(sample(ballast, world, options, samples))]
    await asyncio.wait(tasks, timeout=options.seconds, return_when=asyncio.FIRST_EXCEPTION)
    world.over.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    problems += [f"the soak itself failed: {error!r}" for error in results if isinstance(error, BaseException)]
    for host in hosts:
        await host.close()
    await wait_until_idle(ballast, idle, problems)
    report(ballast, world, hosts)
    if not options.handovers:
        check_memory(samples, options.seconds, problems)
    if not world.sound or world.failures:
        problems.append(f"{len(world.failures)} of {world.sound} sound requests failed")
    for path, how in world.failures[:20]:
        problems.append(f"{path}: {how}; in the access log: {ballast.logged(path)}")
    problems += [f"a wrong response: {wrong}" for wrong in world.wrong[:20]]
    problems += [f"a request that no client sent: {start}" for host in hosts for start in host.strange[:5]]
    metrics = ballast.metrics()
    for name in ["ballast_panics_total", "ballast_task_panics_total"]:
        if metrics.get(name, 0.0):
            problems.append(f"{name} is {metrics[name]}")
    last = ballast.serving()
    os.kill(last, signal.SIGTERM)
    try:
        await wait_until(lambda: not runs(last), "the end of the process")
    except TimeoutError as error:
        problems.append(str(error))
    if "panicked" in ballast.log():
        problems.append("the log contains a panic")
    return problems


def report(ballast, world, hosts):
    kinds = {}
    for (kind, outcome), count in sorted(world.outcomes.items(), key=str):
        kinds.setdefault(kind, []).append(f"{outcome} {count}")
    for kind, outcomes in kinds.items():
        print(f"{kind}: {', '.join(outcomes)}")
    print(f"{world.handshakes} broken handshakes, {ballast.reloads} reloads, {len(ballast.pids) - 1} handovers, "
          f"{sum(host.requests for host in hosts)} requests at hosts")
    print(f"sound requests: {world.sound}, of which {len(world.failures)} failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--seconds", type=int, default=600, help="how long the faults last")
    parser.add_argument("--binary", type=pathlib.Path, default=target / "release/ballast")
    parser.add_argument("--reload", type=float, default=3, help="seconds from one reload to the next")
    parser.add_argument("--handovers", type=int, default=0, help="how often a process takes over meanwhile")
    parser.add_argument("--http1", default="engine", choices=["engine", "pingora"])
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    if not options.binary.is_file():
        sys.exit(f"there is no {options.binary}; run `cargo build --release`")
    need("openssl", "openssl")
    # asyncio warns of each write to a connection that the other side has broken.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(folder)
        ballast = Ballast(rig, options)
        try:
            problems = asyncio.run(soak(ballast, options))
            if problems:
                print(ballast.log()[-5000:], file=sys.stderr)
        finally:
            rig.end()
            ballast.kill()
    for problem in problems:
        print(f"FAILED: {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
