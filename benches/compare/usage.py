"""The resources that a process and its children use: processor time, context switches, system calls, memory."""

import dataclasses
import os
import pathlib
import re
import signal
import subprocess

from rig import find

TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Usage:
    """Sums over all threads; none of them ends while a measurement runs."""

    cpu: float
    user: float
    system: float
    switches: int

    def since(self, before):
        """The use since `before`. The scheduler's clock gives the sum; the coarse ticks only give its split."""
        cpu = self.cpu - before.cpu
        user, system = self.user - before.user, self.system - before.system
        share = user / (user + system) if user + system > 0 else 0.0
        return Usage(cpu, cpu * share, cpu * (1 - share), self.switches - before.switches)


def family(pid):
    """A process and all its descendants."""
    found = [pid]
    for each in found:
        for task in tasks(each):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def tasks(pid):
    return list(pathlib.Path(f"/proc/{pid}/task").iterdir())


def usage(pid):
    total = Usage(0.0, 0.0, 0.0, 0)
    for task in [task for each in family(pid) for task in tasks(each)]:
        total.cpu += int((task / "schedstat").read_text().split()[0]) / 1e9
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        total.user += int(fields[11]) / TICKS
        total.system += int(fields[12]) / TICKS
        total.switches += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())))
    return total


def memory(pid):
    """Resident bytes of a process and its children."""
    pages = [int(pathlib.Path(f"/proc/{each}/statm").read_text().split()[1]) for each in family(pid)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


class SystemCalls:
    """Counts the system calls of a process while a measurement runs, where perf can."""

    EVENT = "raw_syscalls:sys_enter"

    @staticmethod
    def is_available():
        perf = find("perf")
        if perf is None:
            return False
        probe = subprocess.run([perf, "stat", "-x,", "-e", SystemCalls.EVENT, "true"], capture_output=True, text=True)
        return probe.returncode == 0 and SystemCalls.counted(probe.stderr) is not None

    @staticmethod
    def counted(report):
        found = re.search(rf"^(\d+),.*{SystemCalls.EVENT}", report, re.MULTILINE)
        return int(found.group(1)) if found else None

    def __init__(self, pid):
        pids = ",".join(map(str, family(pid)))
        command = [find("perf"), "stat", "-x,", "-e", self.EVENT, "-p", pids]
        self.perf = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def end(self):
        """The calls since the start."""
        self.perf.send_signal(signal.SIGINT)
        _, report = self.perf.communicate(timeout=10)
        return self.counted(report)
