//! The process: what it is, what it works on, and what it uses of the machine.

use log::debug;
use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, boot_time_secs, page_size, ticks_per_second};
use prometheus::proto::MetricFamily;

use super::State;
use super::family::Family;

/// Families of one series each, or of the few that the machine gives.
pub(super) fn families(state: &State) -> Vec<MetricFamily> {
    let mut families = own(state);
    match used() {
        Ok(used) => families.extend(used),
        Err(error) => debug!("what the process uses cannot be told: {error}"),
    }
    families
}

fn own(state: &State) -> Vec<MetricFamily> {
    let mut build = Family::gauge(
        "ballast_build_info",
        "The version of this process; the value is 1.",
        ["version"],
    );
    build.put([env!("CARGO_PKG_VERSION")], 1.0);
    let mut config = Family::gauge(
        "ballast_config_info",
        "The digest of the configuration in force; the value is 1.",
        ["hash"],
    );
    config.put([&state.config_digest], 1.0);
    vec![
        build.into(),
        config.into(),
        gauge(
            "ballast_config_load_timestamp_seconds",
            "When the configuration in force was taken in, as Unix time.",
            state.config_loaded.unix_seconds(),
        ),
        gauge(
            "ballast_in_flight",
            "Requests of clients that have not ended, refused ones included.",
            state.in_flight as f64,
        ),
        gauge(
            "ballast_connections",
            "Connections of clients that are open.",
            state.connections as f64,
        ),
        counter(
            "ballast_panics_total",
            "Requests that ended in a panic of the code that served them.",
            state.panics as f64,
        ),
        counter(
            "ballast_access_log_lost_lines_total",
            "Lines of access logs that were lost because they could not be written as fast as they came.",
            state.lost_lines as f64,
        ),
        counter(
            "ballast_traces_exported_total",
            "Requests that the collector of traces was told of.",
            state.traced as f64,
        ),
        counter(
            "ballast_traces_lost_total",
            "Requests that the collector of traces was to be told of and was not.",
            state.untraced as f64,
        ),
    ]
}

/// Under the names that every exporter has for them.
fn used() -> ProcResult<Vec<MetricFamily>> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = ticks_per_second() as f64;
    let mut families = vec![
        counter(
            "process_cpu_seconds_total",
            "Processor time of the process, in user and in kernel mode.",
            (stat.utime + stat.stime) as f64 / ticks,
        ),
        gauge(
            "process_open_fds",
            "Descriptors that are open.",
            process.fd_count()? as f64,
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
        gauge(
            "process_start_time_seconds",
            "When the process began, as Unix time.",
            boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
        ),
    ];
    if let LimitValue::Value(most) = process.limits()?.max_open_files.soft_limit {
        families.push(gauge(
            "process_max_fds",
            "Descriptors that may be open.",
            most as f64,
        ));
    }
    Ok(families)
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
