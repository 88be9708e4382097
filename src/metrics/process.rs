//! Metrics of the process: its version, configuration and state, and its use of system resources.

use std::sync::OnceLock;
use std::time::Duration;

use log::debug;
use nix::time::{ClockId, clock_gettime};
use procfs::process::{LimitValue, Process, Stat};
use procfs::{ProcResult, page_size, ticks_per_second};
use prometheus::proto::MetricFamily;

use super::family::Family;
use super::{ClusterState, ProcessState};
use crate::supervisor::Task;

/// Families with a single series, or with few.
pub(super) fn families(state: &ProcessState) -> Vec<MetricFamily> {
    let mut families = process_families(state);
    families.extend(state.cluster.iter().flat_map(cluster_families));
    families.extend(resource_families());
    families
}

fn cluster_families(state: &ClusterState) -> [MetricFamily; 2] {
    [
        gauge(
            "ballast_cluster_members",
            "Live members of the cluster, this one included, among which limits are divided; without etcd the last number \
             that was known.",
            f64::from(state.members),
        ),
        gauge(
            "ballast_cluster_connected",
            "Whether etcd is followed; without it changes by operators are refused.",
            f64::from(u8::from(state.is_connected)),
        ),
    ]
}

fn process_families(state: &ProcessState) -> Vec<MetricFamily> {
    let mut build = Family::gauge(
        "ballast_build_info",
        "The version of this process; the value is 1.",
        ["version"],
    );
    build.put([env!("CARGO_PKG_VERSION")], 1.0);
    let mut config = Family::gauge(
        "ballast_config_info",
        "The digest of the active configuration; the value is 1.",
        ["hash"],
    );
    config.put([&state.config_digest], 1.0);
    let mut drift = Family::gauge(
        "ballast_drift",
        "What differs from the disk: changes of operators that the file does not have, whether the file was edited after \
         the last reload, and whether the binary was replaced.",
        ["kind"],
    );
    drift.put(["operator"], state.drift.operator_changes as f64);
    drift.put(["file"], f64::from(u8::from(state.drift.is_file_edited)));
    drift.put(
        ["binary"],
        f64::from(u8::from(state.drift.is_binary_replaced)),
    );
    let mut task_panics = Family::counter(
        "ballast_task_panics_total",
        "Panics in background tasks, each of which was restarted.",
        ["task"],
    );
    for task in Task::ALL {
        task_panics.put([task.name()], task.panics() as f64);
    }
    let mut expiries = Family::gauge(
        "ballast_certificate_expiry_timestamp_seconds",
        "When the first certificate of the chain in this file expires, as Unix time.",
        ["certificate"],
    );
    let mut beginnings = Family::gauge(
        "ballast_certificate_start_timestamp_seconds",
        "When all certificates of the chain in this file are valid from, as Unix time.",
        ["certificate"],
    );
    for (file, validity) in &state.certificates {
        // Dates that cannot be read have no series.
        let file = &*file.to_string_lossy();
        if validity.until < i64::MAX {
            expiries.put([file], validity.until as f64);
        }
        if validity.from > i64::MIN {
            beginnings.put([file], validity.from as f64);
        }
    }
    let mut renewals = Family::gauge(
        "ballast_acme_renewal_timestamp_seconds",
        "When the certificate for this domain is to be renewed, as Unix time.",
        ["domain"],
    );
    let mut failures = Family::gauge(
        "ballast_acme_failures",
        "Orders of the certificate for this domain that have failed since the last that succeeded.",
        ["domain"],
    );
    for order in &state.orders {
        failures.put([&order.domain], f64::from(order.failures));
        if let Some(renewal) = order.renewal {
            renewals.put([&order.domain], renewal.unix_seconds());
        }
    }
    let mut lists = Family::gauge(
        "ballast_revocation_list_expiry_timestamp_seconds",
        "When the first revocation list in this file expires, after which clients are refused, as Unix time.",
        ["file"],
    );
    for (file, expiry) in &state.revocation_lists {
        lists.put([&*file.to_string_lossy()], *expiry as f64);
    }
    let mut workers = Family::gauge(
        "ballast_worker_connections",
        "Open connections of clients on this worker thread.",
        ["worker"],
    );
    for (worker, connections) in state.worker_connections.iter().enumerate() {
        workers.put([&worker.to_string()], *connections as f64);
    }
    vec![
        build.into(),
        config.into(),
        drift.into(),
        task_panics.into(),
        expiries.into(),
        beginnings.into(),
        renewals.into(),
        failures.into(),
        lists.into(),
        gauge(
            "ballast_certificates_refused",
            "Changed files of certificates, authorities, revocation lists and secrets of TLS that are not used, because something \
             is wrong with them.",
            state.refused_certificates as f64,
        ),
        workers.into(),
        gauge(
            "ballast_config_load_timestamp_seconds",
            "When the active configuration was loaded, as Unix time.",
            state.config_loaded.unix_seconds(),
        ),
        gauge(
            "ballast_in_flight",
            "Requests of clients in flight, refused ones included.",
            state.in_flight as f64,
        ),
        gauge(
            "ballast_connections",
            "Connections of clients that are open.",
            state.connections as f64,
        ),
        gauge(
            "ballast_tls_handshakes_in_progress",
            "TLS handshakes of clients that have begun and are not complete.",
            state.handshakes as f64,
        ),
        counter(
            "ballast_panics_total",
            "Requests that ended in a panic of the code that served them.",
            state.panics as f64,
        ),
        counter(
            "ballast_access_log_lost_lines_total",
            "Lines of access logs that were dropped because they could not be written fast enough.",
            state.lost_lines as f64,
        ),
        counter(
            "ballast_traces_exported_total",
            "Requests that were exported to the trace collector.",
            state.traced as f64,
        ),
        counter(
            "ballast_traces_lost_total",
            "Requests that could not be exported to the trace collector.",
            state.untraced as f64,
        ),
    ]
}

/// Process metrics under their usual names. A file of /proc that a container or a unit hides leaves out its own metrics
/// only. Only /proc/self is read.
fn resource_families() -> Vec<MetricFamily> {
    let Some(process) = logged("process", Process::myself()) else {
        return Vec::new();
    };
    let mut families = Vec::new();
    if let Some(stat) = logged("stat", process.stat()) {
        families.extend(from_stat(&stat));
    }
    if let Some(open) = logged("fd", process.fd_count()) {
        families.push(gauge(
            "process_open_fds",
            "Open file descriptors.",
            open as f64,
        ));
    }
    if let Some(limits) = logged("limits", process.limits())
        && let LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        families.push(gauge(
            "process_max_fds",
            "The limit of open file descriptors.",
            most as f64,
        ));
    }
    families
}

fn logged<T>(file: &str, read: ProcResult<T>) -> Option<T> {
    read.map_err(|error| debug!("cannot read /proc/self/{file}: {error}"))
        .ok()
}

fn from_stat(stat: &Stat) -> Vec<MetricFamily> {
    let ticks = ticks_per_second() as f64;
    let mut families = vec![
        counter(
            "process_cpu_seconds_total",
            "Processor time of the process, in user and in kernel mode.",
            (stat.utime + stat.stime) as f64 / ticks,
        ),
        gauge(
            "process_resident_memory_bytes",
            "Memory of the process that is resident.",
            (stat.rss * page_size()) as f64,
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Memory of the process that is addressable.",
            stat.vsize as f64,
        ),
        gauge(
            "process_threads",
            "Threads of the process.",
            stat.num_threads as f64,
        ),
    ];
    if let Some(booted) = booted() {
        families.push(gauge(
            "process_start_time_seconds",
            "When the process began, as Unix time.",
            booted + stat.starttime as f64 / ticks,
        ));
    }
    families
}

/// When the machine was booted, as Unix time. Computed from the clocks, as /proc/stat may be hidden, and only once, so
/// that a change of the clock does not move the start of the process.
fn booted() -> Option<f64> {
    static BOOTED: OnceLock<Option<f64>> = OnceLock::new();
    *BOOTED.get_or_init(|| {
        let since = |clock| clock_gettime(clock).map(Duration::from).ok();
        let now = since(ClockId::CLOCK_REALTIME)?;
        let up = since(ClockId::CLOCK_BOOTTIME)?;
        Some(now.as_secs_f64() - up.as_secs_f64())
    })
}

fn counter(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut family = Family::counter(name, help, []);
    family.put([], value);
    family.into()
}

fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut family = Family::gauge(name, help, []);
    family.put([], value);
    family.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_the_machine_is_that_of_the_kernel() {
        let expected = procfs::boot_time_secs().expect("nothing is hidden here");
        let booted = booted().expect("the clocks are there");
        assert!(
            (booted - expected as f64).abs() < 5.0,
            "{booted}, {expected}"
        );
    }
}
