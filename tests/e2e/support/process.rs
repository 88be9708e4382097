//! The resources that a process holds, as the kernel reports them.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// Open file descriptors.
pub(crate) fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// How many of the `wanted` descriptors this process, and each process that it starts from now on, may open.
pub(crate) fn allowed_descriptors(wanted: u64) -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    wanted.min(hard.saturating_sub(1_000))
}

/// Resident memory, in bytes.
#[track_caller]
pub(crate) fn resident(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.and_then(|n| n.parse().ok()).expect("a number");
    kilobytes << 10
}

/// Processor time so far, of all threads together.
#[track_caller]
pub(crate) fn processor_time(pid: Pid) -> Duration {
    // In nanoseconds; the file of the process itself counts only its first thread.
    let time = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    Duration::from_nanos(tasks.filter_map(|task| time(task.ok()?)).sum())
}

/// Accepted connections at `address` whose socket is still held, even if one side has closed.
pub(crate) fn accepted_at(address: SocketAddr) -> usize {
    const ESTABLISHED: &str = "01";
    const CLOSE_WAIT: &str = "08";
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let held = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        let state = fields.nth(1).unwrap_or_default();
        local.ends_with(&port) && [ESTABLISHED, CLOSE_WAIT].contains(&state)
    };
    table.lines().skip(1).filter(held).count()
}
