"""Configurations in a folder, and the processes that run with them."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time


class Rig:
    """Starts processes on loopback, and ends all of them."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.processes = []

    def end(self, first=0):
        """Ends the processes from this index on, the last one first."""
        ending = self.processes[first:]
        del self.processes[first:]
        for process in reversed(ending):
            process.terminate()
        for process in ending:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, command, port, processors=None):
        """Starts a server, bound to these processors if any are named, and waits until it listens; returns its pid."""
        command = [str(part) for part in command]
        if processors:
            command = ["taskset", "-c", ",".join(map(str, processors)), *command]
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        wait_for_port(port, process, self.folder / "log")
        return process.pid


def wait_for_port(port, process, log):
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = log.read_text(errors="replace")[-2000:]
            sys.exit(f"{' '.join(process.args)} ended with {process.returncode}:\n{tail}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"{' '.join(process.args)} does not listen on {port}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_ports(count):
    """Ports below the range of outgoing connections."""
    found = []
    for port in range(10_000, 30_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    sys.exit(f"there are no {count} free ports")


def find(program):
    """The path of a program; `None` if it is not installed."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")


def need(program, package):
    found = find(program)
    if found is None:
        sys.exit(f"needs {program} (Debian: apt-get install {package})")
    return found


def run(*command):
    """The output of a command."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
