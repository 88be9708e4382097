"""Loads a proxy, and reports how many requests got a response and how fast."""

import dataclasses
import re
import subprocess
import sys

from rig import need

# The fields that curl sends.
FIELDS = ["-H", "User-Agent: curl/8.14.1", "-H", "Accept: */*"]

UPLOAD = """
wrk.method = "POST"
wrk.body = string.rep("x", 1048576)
"""


@dataclasses.dataclass
class Load:
    """How clients send requests."""

    path: str = "/1k"
    connections: int = 64
    # A connection for each request.
    close: bool = False
    upload: bool = False
    tls: bool = False
    # Streams on each connection; 0: HTTP/1.1.
    streams: int = 0
    # Each connection resumes the session of the one before it.
    resumed: bool = False
    # Calls of gRPC.
    grpc: bool = False


@dataclasses.dataclass
class Answers:
    """The outcome of a load; latencies are in milliseconds."""

    requests: int
    rate: float
    p50: float
    p99: float


def begin(load, port, seconds, processors, folder):
    url = f"{'https' if load.tls else 'http'}://127.0.0.1:{port}{load.path}"
    pinned = ["taskset", "-c", ",".join(map(str, processors))]
    if load.resumed:
        # wrk cannot resume sessions.
        command = ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-reuse", "-time", str(seconds), "-www", load.path]
        runs = [subprocess.Popen(pinned + command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                for _ in range(load.connections)]
        return lambda: of_s_time(runs)
    if load.streams:
        # h2load gives quantiles only by way of its request log.
        log = folder / f"h2load-{port}.tsv"
        log.unlink(missing_ok=True)
        command = [need("h2load", "nghttp2-client"), f"-c{load.connections}", f"-m{load.streams}", "-t1", f"-D{seconds}",
                   "--warm-up-time=0", f"--log-file={log}", url]
        if load.grpc:
            message = folder / "message"
            message.write_bytes(b"\0\0\0\0\5hello")
            command += [f"--data={message}", "-H", "Content-Type: application/grpc", "-H", "TE: trailers"]
        run = subprocess.Popen(pinned + command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return lambda: of_h2load(run, log)
    fields = FIELDS + (["-H", "Connection: close"] if load.close else [])
    script = []
    if load.upload:
        lua = folder / "upload.lua"
        lua.write_text(UPLOAD)
        script = ["-s", str(lua)]
    command = [need("wrk", "wrk"), "-t1", f"-c{load.connections}", f"-d{seconds}s", "--latency", *script, *fields, url]
    run = subprocess.Popen(pinned + command, stdout=subprocess.PIPE, text=True)
    return lambda: of_wrk(run)


def of_wrk(run):
    output, _ = run.communicate()
    if run.returncode != 0 or "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"requests failed, so there is nothing to compare: {' '.join(run.args)}\n{output}")
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}

    def latency(percent):
        value, name = re.search(rf"\b{percent}%\s+([\d.]+)(us|ms|s)\b", output).groups()
        return float(value) * unit[name]

    requests = int(re.search(r"(\d+) requests in", output).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1))
    return Answers(requests, rate, latency(50), latency(99))


def of_s_time(runs):
    """Connections of openssl, which does not tell how long each took."""
    requests = rate = 0
    for run in runs:
        output, _ = run.communicate()
        # The first connection has no session yet.
        done = re.search(r"(\d+) connections in (\d+) real", output)
        resumed = max(re.findall("r+", output), key=len, default="")
        if run.returncode != 0 or not done or len(resumed) < int(done.group(1)) - 1:
            sys.exit(f"sessions were not resumed, so there is nothing to compare: {' '.join(run.args)}\n{output[-500:]}")
        requests += int(done.group(1))
        rate += int(done.group(1)) / max(1, int(done.group(2)))
    return Answers(requests, rate, float("nan"), float("nan"))


def of_h2load(run, log):
    output, _ = run.communicate()
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", output)
    if run.returncode != 0 or not found or found.group(2) != "0" or found.group(3) != "0":
        sys.exit(f"requests failed, so there is nothing to compare: {' '.join(run.args)}\n{output}")
    rate = float(re.search(r"([\d.]+) req/s", output).group(1))
    # Start, status, microseconds.
    times = sorted(int(line.split("\t")[2]) / 1e3 for line in log.read_text().splitlines())
    quantile = lambda share: times[min(len(times) - 1, int(share * len(times)))] if times else float("nan")
    return Answers(int(found.group(1)), rate, quantile(0.5), quantile(0.99))
