#!/usr/bin/env python3
"""Builds ballast with profile-guided optimisation: an instrumented build, a mixed training load, and the final build.

    rustup component add llvm-tools
    benches/pgo.py

The binary is target/pgo/ballast. The script makes two release builds from scratch, which with fat LTO takes many
minutes. The load is that of compare/run.py: requests over kept connections and over one each, responses of 1 KiB to 1
MiB, uploads, TLS with and without new handshakes, HTTP/2, an access log, and all algorithms. To measure the gain in one
interleaved run:

    cargo build --release && benches/cpu_per_request.py --beside target/pgo/ballast

Everything listens on loopback, and the script ends every process that it starts.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benches/compare"))

import load
from contenders import Ballast, backend
from rig import Rig, free_port, need, run
from run import SCENARIOS, prepare

# The most common kinds of requests count twice.
TRAINING = [
    "keepalive_64", "keepalive_64", "keepalive_512", "body_64k", "body_1m", "upload_1m", "close", "tls", "tls_handshakes",
    "http2", "access_log", "random_100", "p2c_100", "consistent_hash_100", "bounded_100", "ip_hash_100", "least_load_100",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3, help="of each kind of load")
    options = parser.parse_args()
    need("nginx", "nginx-light"), need("wrk", "wrk"), need("h2load", "nghttp2-client"), need("openssl", "openssl")
    need("taskset", "util-linux")
    profdata = find_profdata()
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "pgo"
    raw, merged = folder / "raw", folder / "ballast.profdata"
    # Profiles of an earlier build would be merged with those of this one.
    shutil.rmtree(raw, ignore_errors=True)
    instrumented = build(folder / "instrumented", f"-Cprofile-generate={raw}")
    for name in TRAINING:
        print(f"training: {name}", flush=True)
        train(instrumented, SCENARIOS[name], options.seconds)
    profiles = sorted(raw.glob("*.profraw"))
    if not profiles:
        sys.exit(f"the instrumented binary has written no profile to {raw}")
    subprocess.run([profdata, "merge", "-o", merged, *profiles], check=True)
    binary = shutil.copy2(build(folder / "optimised", f"-Cprofile-use={merged}"), folder / "ballast")
    print(f"the binary: {binary}")


def find_profdata():
    """The tool of the Rust toolchain: other versions may not know the format that its LLVM writes."""
    libraries = pathlib.Path(run("rustc", "--print", "sysroot").strip()) / "lib/rustlib"
    found = libraries / host() / "bin/llvm-profdata"
    if not found.is_file():
        sys.exit(f"{found} is not there; install it with `rustup component add llvm-tools`")
    return found


def host():
    lines = run("rustc", "-vV").splitlines()
    return next(line.removeprefix("host: ") for line in lines if line.startswith("host: "))


def build(target, flags):
    """A release build with further flags for the compiler; returns its binary."""
    flags = f"{os.environ.get('RUSTFLAGS', '')} {flags}".strip()
    # With an explicit target, the flags apply only to the binary and not to build scripts and macros.
    command = ["cargo", "build", "--release", "--locked", "--bin", "ballast", "--target", host(), "--target-dir", target]
    if subprocess.run(command, cwd=ROOT, env=os.environ | {"RUSTFLAGS": flags}).returncode != 0:
        sys.exit("the build failed")
    return target / host() / "release/ballast"


def train(binary, scenario, seconds):
    """One run of the binary under one kind of load. It writes its profile when it ends."""
    processors = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="ballast-pgo-") as folder:
        # An nginx that root starts runs its workers as another user.
        os.chmod(folder, 0o755)
        rig = Rig(folder)
        try:
            world = prepare(rig, scenario)
            rig.start(backend(rig, world.hosts), world.hosts[0])
            port = free_port()
            rig.start(Ballast(binary).command(rig, world, scenario.setup, port), port)
            load.begin(scenario.load, port, seconds, processors, rig.folder)()
        finally:
            rig.end()


if __name__ == "__main__":
    main()
