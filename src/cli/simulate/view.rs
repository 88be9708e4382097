//! Formats the results of a simulation as lines for a terminal.

use crate::cli::terminal::{Style, StyledLine};
use crate::simulate::{AlgorithmReport, HostReport, LatencyReport, Report, ServiceDistribution};

/// Hosts of an algorithm that are shown.
const MAX_HOSTS: usize = 32;

/// A host of which so much is busy gets more requests than it serves.
const SATURATED: f64 = 0.99;

const SUMMARY: [&str; 7] = [
    "ALGORITHM",
    "P50 ms",
    "P99 ms",
    "P99.9 ms",
    "MAX ms",
    "FAILED",
    "REFUSED",
];
const HOSTS: [&str; 8] = [
    "HOST",
    "WEIGHT",
    "REQUESTS",
    "SHARE",
    "BUSY",
    "MEAN QUEUE",
    "PEAK QUEUE",
    "FAILED",
];

pub(super) fn lines(report: &Report) -> Vec<StyledLine> {
    let title = StyledLine::new(format!("pool {}", report.pool), Style::Title);
    let mut lines = vec![
        title.and(format!(": {}", about(report)), Style::Plain),
        load_line(report),
        StyledLine::default(),
    ];
    let rows = report.algorithms.iter().map(summary);
    lines.extend(table(SUMMARY, Vec::from_iter(rows)));
    if report.algorithms.iter().any(|one| one.configured) {
        let text = "* the algorithm of the file, with its options; the others have their defaults";
        lines.push(StyledLine::new(text, Style::Plain));
    }
    for algorithm in &report.algorithms {
        lines.push(StyledLine::default());
        lines.extend(hosts(algorithm));
    }
    lines
}

/// What was simulated, on one line.
pub(super) fn about(report: &Report) -> String {
    let kind = match report.service {
        ServiceDistribution::Exponential => "exponential",
        ServiceDistribution::Deterministic => "equal",
        ServiceDistribution::Pareto => "heavy-tailed (Pareto 1.5)",
    };
    let clients = match report.skew {
        0.0 => "evenly".to_owned(),
        skew => format!("by Zipf's law ({skew})"),
    };
    format!(
        "{} requests/s, {kind} service of {} ms, {} at once on each host, {} clients {clients}, seed {}",
        report.rate, report.service_time_ms, report.concurrency, report.keys, report.seed
    )
}

/// The load as a share of the capacity.
pub(super) fn load(report: &Report) -> String {
    let percent = report.load * 100.0;
    match report.is_overloaded() {
        true => format!("overloaded: {percent:.0} % of capacity"),
        false => format!("{percent:.0} % of capacity"),
    }
}

fn load_line(report: &Report) -> StyledLine {
    let (style, consequence) = match report.is_overloaded() {
        true => (
            Style::Bad,
            "; queues grow throughout, so what follows depends on the length of the run",
        ),
        false => (Style::Plain, ""),
    };
    let measured = format!("; measured after the first {:.3} s", report.warm_up_seconds);
    let line = StyledLine::new(load(report), style);
    line.and(consequence, Style::Plain)
        .and(measured, Style::Plain)
}

fn summary(one: &AlgorithmReport) -> ([String; 7], Style) {
    let latency = |value: fn(&LatencyReport) -> f64| match &one.latency {
        Some(latency) => format!("{:.1}", value(latency)),
        None => "-".to_owned(),
    };
    let mark = if one.configured { " *" } else { "" };
    let cells = [
        format!("{}{mark}", one.algorithm),
        latency(|latency| latency.p50_ms),
        latency(|latency| latency.p99_ms),
        latency(|latency| latency.p999_ms),
        latency(|latency| latency.max_ms),
        one.failed.to_string(),
        one.refused.to_string(),
    ];
    let style = match one.failed + one.refused {
        0 => Style::Plain,
        _ => Style::Passing,
    };
    (cells, style)
}

fn hosts(one: &AlgorithmReport) -> Vec<StyledLine> {
    let title = StyledLine::new(one.algorithm, Style::Title);
    let waited = match one.peak_waiting {
        0 => String::new(),
        peak => format!(
            ", {:.2} waited on average and {peak} at most while every host was full",
            one.mean_waiting
        ),
    };
    let is_saturated = |host: &&HostReport| host.utilization >= SATURATED;
    let saturated = match one.hosts.iter().filter(is_saturated).count() {
        0 => String::new(),
        1 => ", a host is saturated: its queue grows throughout".to_owned(),
        count => format!(", {count} hosts are saturated: their queues grow throughout"),
    };
    let title = title.and(waited, Style::Plain);
    let mut lines = vec![title.and(saturated, Style::Bad)];
    let rows = one.hosts.iter().take(MAX_HOSTS).map(|host| {
        let name = host.name.as_deref().unwrap_or(&host.host);
        let mut label = name.to_owned();
        if host.slowdown != 1.0 {
            label += &format!(" ({}x slower)", host.slowdown);
        }
        if host.ejections > 0 {
            label += &format!(" (ejected {})", times(host.ejections));
        }
        let cells = [
            label,
            host.weight.to_string(),
            host.requests.to_string(),
            format!("{:.2} %", host.share * 100.0),
            format!("{:.0} %", host.utilization * 100.0),
            format!("{:.2}", host.mean_queue),
            host.peak_queue.to_string(),
            host.failed.to_string(),
        ];
        let style = match is_saturated(&host) {
            true => Style::Bad,
            false => Style::Plain,
        };
        (cells, style)
    });
    lines.extend(table(HOSTS, Vec::from_iter(rows)));
    let more = one.hosts.len().saturating_sub(MAX_HOSTS);
    if more > 0 {
        let text = format!("and {more} more hosts; --format json has all");
        lines.push(StyledLine::new(text, Style::Plain));
    }
    lines
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// A heading and rows; the first column is text, the others are numbers.
fn table<const N: usize>(
    heading: [&str; N],
    rows: Vec<([String; N], Style)>,
) -> impl Iterator<Item = StyledLine> {
    let heading = (heading.map(str::to_owned), Style::Plain);
    let all = Vec::from_iter(std::iter::once(heading).chain(rows));
    let width = |column: usize| {
        let cells = all.iter().map(|(cells, _)| cells[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    all.into_iter().map(move |(cells, style)| {
        let cells = cells.iter().zip(widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("  {cell:>width$}"),
        });
        StyledLine::new(cells.collect::<String>(), style)
    })
}
