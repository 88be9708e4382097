#!/usr/bin/env python3
"""Ballast compared with nginx, HAProxy and every other proxy that is installed, in one interleaved run.

    cargo build --release --bins --examples && benches/compare/run.py
    benches/compare/run.py --only keepalive_64,close --rounds 9

The proxies are bound to the first processors, as many as they have workers; the load and the hosts are bound to the
rest. In each round every proxy is loaded once, in a shuffled order. In `together` all are loaded at the same time, so
that none finds the caches warm. Figures are medians of the rounds, and ratios are medians of each round's ratio to
nginx, because other load on the machine affects both. Processor time is the scheduler's, of all threads of a proxy.
System calls are counted in a separate round where perf can count them. Raw results with versions go to
benches/results/DATE.json.

Everything listens on loopback, and the script ends every process that it starts.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import random
import statistics
import sys
import tempfile

import load
from contenders import Ballast, Setup, World, backend, contenders, grpc_backend
from load import Load
from rig import Rig, find, free_port, free_ports, need, run
from usage import SystemCalls, memory, usage

ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass
class Scenario:
    load: Load = dataclasses.field(default_factory=Load)
    setup: Setup = dataclasses.field(default_factory=Setup)
    hosts: int = 2
    # All proxies are loaded at the same time.
    together: bool = False
    # Only Ballast has the compared feature.
    alone: bool = False


SCENARIOS = {
    "keepalive_64": Scenario(),
    "together_16": Scenario(Load(connections=16), together=True),
    "keepalive_512": Scenario(Load(connections=512)),
    "workers_2": Scenario(Load(connections=128), Setup(workers=2)),
    "body_64k": Scenario(Load("/64k")),
    "body_1m": Scenario(Load("/1m", connections=16)),
    "upload_1m": Scenario(Load("/upload", connections=16, upload=True)),
    "close": Scenario(Load(close=True)),
    "tls": Scenario(Load(tls=True), Setup(tls=True)),
    "tls_handshakes": Scenario(Load(tls=True, close=True, connections=16), Setup(tls=True)),
    "tls_resumed": Scenario(Load(tls=True, connections=4, resumed=True), Setup(tls=True)),
    "http2": Scenario(Load(tls=True, connections=16, streams=8), Setup(tls=True)),
    "grpc": Scenario(
        Load("/bench.Echo/Say", tls=True, connections=16, streams=8, grpc=True), Setup(tls=True, grpc=True)
    ),
    "access_log": Scenario(setup=Setup(access_log=True)),
} | {
    f"{algorithm}_{hosts}": Scenario(setup=Setup(algorithm=algorithm), hosts=hosts, alone=True)
    for algorithm in ("random", "round_robin", "p2c", "consistent_hash", "bounded", "ip_hash", "least_load")
    for hosts in (2, 100, 1000)
}


def main():
    options = arguments()
    need("nginx", "nginx-light"), need("wrk", "wrk"), need("openssl", "openssl"), need("taskset", "util-linux")
    found = contenders(options.target)
    if not any(isinstance(each, Ballast) for each in found):
        sys.exit("there is no release build; run `cargo build --release --bins --examples`")
    raw = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kernel": platform.release().partition("-")[0],
        "processors": os.cpu_count(),
        "seconds": options.seconds,
        "versions": {each.name: each.version() for each in found},
        "scenarios": {},
    }
    print(", ".join(f"{name} {version}" for name, version in raw["versions"].items()), flush=True)
    for name in options.only:
        scenario = SCENARIOS[name]
        taking_part = [each for each in found if not scenario.alone or each.name == "ballast"]
        with tempfile.TemporaryDirectory(prefix="ballast-compare-") as folder:
            # An nginx that root starts runs its workers as another user.
            os.chmod(folder, 0o755)
            rig = Rig(folder)
            try:
                results = measure(options, rig, scenario, taking_part)
            finally:
                rig.end()
        raw["scenarios"][name] = results
        tell(name, results)
    file = options.results or ROOT / f"benches/results/{raw['date'][:10]}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(raw, indent=1) + "\n")
    print(f"\nraw results: {file}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    names = lambda text: [check(name) for name in text.split(",")]
    parser.add_argument("--only", type=names, default=list(SCENARIOS), help="scenarios: " + ", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of load for each proxy in each round")
    parser.add_argument("--target", type=pathlib.Path, default=target)
    parser.add_argument("--results", type=pathlib.Path, help="where the raw results go")
    return parser.parse_args()


def check(name):
    if name not in SCENARIOS:
        raise argparse.ArgumentTypeError(f"no scenario `{name}`; there are {', '.join(SCENARIOS)}")
    return name


def measure(options, rig, scenario, taking_part):
    """Each proxy's measurements by round, and its system calls per request."""
    available = sorted(os.sched_getaffinity(0))
    proxies = available[: scenario.setup.workers]
    rest = available[scenario.setup.workers :] or available
    world = prepare(rig, scenario)
    grpc = scenario.setup.grpc
    hosts = grpc_backend(options.target, world.hosts) if grpc else backend(rig, world.hosts)
    rig.start(hosts, world.hosts[0], rest)
    running = []
    for each in taking_part:
        port = free_port()
        command = each.command(rig, world, scenario.setup, port)
        if command is not None:
            running.append((each.name, port, rig.start(command, port, proxies)))
    results = {name: {"rounds": [], "calls": None} for name, _, _ in running}

    def begin(port, seconds):
        return load.begin(scenario.load, port, seconds, rest, rig.folder)

    for _, port, _ in running:
        begin(port, 1)()
    for _ in range(options.rounds):
        random.shuffle(running)
        groups = [running] if scenario.together else [[one] for one in running]
        for group in groups:
            before = [usage(pid) for _, _, pid in group]
            ends = [begin(port, options.seconds) for _, port, _ in group]
            for (name, _, pid), since, end in zip(group, before, ends):
                results[name]["rounds"].append(one_round(end(), usage(pid).since(since), memory(pid)))
    if SystemCalls.is_available() and not scenario.together:
        for name, port, pid in running:
            end = begin(port, 1)
            calls = SystemCalls(pid)
            answers = end()
            counted = calls.end()
            results[name]["calls"] = counted / answers.requests if counted else None
    return results


def one_round(answers, used, resident):
    each = 1e6 / max(1, answers.requests)
    return {
        "us": used.cpu * each,
        "user_us": used.user * each,
        "system_us": used.system * each,
        "switches": used.switches / max(1, answers.requests),
        "rate": answers.rate,
        "p50_ms": answers.p50,
        "p99_ms": answers.p99,
        "memory_mib": resident / (1 << 20),
        "requests": answers.requests,
    }


def prepare(rig, scenario):
    certificate, key = rig.folder / "certificate.pem", rig.folder / "key.pem"
    if scenario.setup.tls:
        run(find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    return World(rig.folder, free_ports(scenario.hosts), certificate, key)


def tell(name, results):
    """The medians as a Markdown table, the cheapest first."""
    load_of, setup = SCENARIOS[name].load, SCENARIOS[name].setup
    print(f"\n### {name}: {load_of.connections} connections, {load_of.path}, workers {setup.workers}\n")
    print("| proxy | µs/request | ratio | user | system | syscalls | switches | req/s | p50 ms | p99 ms | MiB |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    median = lambda rounds, key: statistics.median(each[key] for each in rounds)
    base = results.get("nginx", {}).get("rounds")
    for proxy, result in sorted(results.items(), key=lambda item: median(item[1]["rounds"], "us")):
        rounds, calls = result["rounds"], result["calls"]
        ratio = f"{statistics.median(ours['us'] / theirs['us'] for ours, theirs in zip(rounds, base)):.2f}" if base else "–"
        print(
            f"| {proxy} | {median(rounds, 'us'):.1f} | {ratio} | {median(rounds, 'user_us'):.1f} "
            f"| {median(rounds, 'system_us'):.1f} | {f'{calls:.1f}' if calls else '–'} | {median(rounds, 'switches'):.2f} "
            f"| {median(rounds, 'rate'):.0f} | {median(rounds, 'p50_ms'):.2f} | {median(rounds, 'p99_ms'):.2f} "
            f"| {median(rounds, 'memory_mib'):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
