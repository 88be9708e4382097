//! Formats a plan as lines for a terminal.

use std::time::Duration;

use crate::admin::{
    ChecksPlan, ConnectionPlan, HostPlan, KeyPlan, Plan, PlannedHost, PoolPlan, RemovedListener,
};
use crate::cli::terminal::{Style, StyledLine};

/// Hosts of a pool that are shown.
const MAX_HOSTS: usize = 100;

pub(super) fn lines(plan: &Plan) -> Vec<StyledLine> {
    let mut lines = vec![headline(plan)];
    let new_process = plan.in_new_process.iter();
    lines.extend(new_process.map(|change| {
        let line = indented(change, Style::Plain);
        line.and(", needs a new process", Style::Passing)
    }));
    let in_place = plan.in_place.iter();
    lines.extend(in_place.map(|change| indented(change, Style::Plain)));
    for pool in &plan.pools {
        lines.push(StyledLine::default());
        lines.extend(pool_lines(pool));
    }
    if plan.way.is_some() {
        lines.push(StyledLine::default());
        lines.push(StyledLine::new("connections of clients", Style::Title));
        lines.extend(connection_lines(&plan.connections));
    }
    lines
}

fn headline(plan: &Plan) -> StyledLine {
    let (outcome, style) = match (plan.way.as_deref(), plan.obstacles.is_empty()) {
        (_, false) => ("a reload would fail", Style::Bad),
        (None, true) => ("nothing would change", Style::Good),
        (Some("in-place"), true) => ("a reload would change in place", Style::Good),
        (Some(_), true) => ("a reload would hand over to a new process", Style::Passing),
    };
    StyledLine::new(format!("{}: ", plan.file), Style::Plain).and(outcome, style)
}

fn pool_lines(pool: &PoolPlan) -> Vec<StyledLine> {
    let algorithm = match (&pool.algorithm_before, &pool.algorithm_after) {
        (Some(before), Some(after)) if before != after => format!(", {before} to {after}"),
        (Some(_), Some(after)) => format!(", {after}"),
        (None, Some(after)) => format!(" is new, {after}"),
        (_, None) => " is removed".to_owned(),
    };
    let title = StyledLine::new(format!("pool {}", pool.name), Style::Title);
    let mut lines = vec![title.and(algorithm, Style::Plain)];
    lines.extend(pool.keys.as_ref().map(key_line));
    let stays = pool.algorithm_before.is_some() && pool.algorithm_after.is_some();
    lines.extend(pool.checks.filter(|_| stays).map(checks_line));
    lines.extend(pool.void_cookies.as_ref().map(|which| {
        let text = format!("sticky cookies become void, {which}");
        indented(&text, Style::Passing)
    }));
    let widths = pool.hosts.iter().map(|host| host.host.chars().count());
    let width = widths.max().unwrap_or(0);
    let shown = pool.hosts.iter().take(MAX_HOSTS);
    lines.extend(shown.map(|host| host_line(host, width)));
    let more = pool.hosts.len().saturating_sub(MAX_HOSTS);
    if more > 0 {
        let text = format!("and {more} more hosts; --json has all");
        lines.push(indented(&text, Style::Plain));
    }
    lines
}

fn key_line(keys: &KeyPlan) -> StyledLine {
    let text = match (keys.bound_before, keys.bound_after) {
        (false, false) => "no key is bound to a host".to_owned(),
        (true, false) => "keys are no longer bound to hosts".to_owned(),
        (false, true) => "keys become bound to hosts".to_owned(),
        (true, true) => {
            let (Some(moved), Some(minimum)) = (keys.moved, keys.minimum) else {
                return indented("no host has keys, before or after", Style::Bad);
            };
            let style = match moved {
                0.0 => Style::Good,
                _ => Style::Passing,
            };
            let (moved, minimum) = (percent(moved), percent(minimum));
            let text = format!("of keys {moved} move; for even shares at least {minimum} must");
            let sampled = format!(" ({} sampled)", keys.sampled);
            return indented(&text, style).and(sampled, Style::Plain);
        }
    };
    indented(&text, Style::Plain)
}

fn checks_line(checks: ChecksPlan) -> StyledLine {
    let text = match checks {
        ChecksPlan::Begin => "health checks begin: each host is checked before it is used",
        ChecksPlan::StartAnew => "health checks start anew: each host is checked before it is used",
        ChecksPlan::End => "health checks end: every host counts as healthy",
    };
    indented(text, Style::Passing)
}

fn host_line(host: &HostPlan, width: usize) -> StyledLine {
    let (text, style) = match (&host.before, &host.after) {
        (None, None) => (String::new(), Style::Plain),
        (None, Some(after)) => (format!("added, {}", settings(after)), Style::Good),
        (Some(_), None) => ("removed".to_owned(), Style::Bad),
        (Some(before), Some(after)) => (differences(before, after), Style::Passing),
    };
    let mut effects = Vec::new();
    if host.loses_state {
        effects.push("loses latency, health and ejection".to_owned());
    }
    if host.starts_slowly {
        effects.push("begins in slow start".to_owned());
    }
    if let Some(requests) = host.in_flight.filter(|requests| *requests > 0) {
        effects.push(format!("{} in flight finish", count(requests, "request")));
    }
    if let Some(kept) = host.kept_connections.filter(|kept| *kept > 0) {
        effects.push(format!("{} not used again", count(kept, "kept connection")));
    }
    let effects = effects.iter().map(|effect| format!("; {effect}"));
    indented(&format!("{:width$}  ", host.host), Style::Plain)
        .and(text, style)
        .and(effects.collect::<String>(), Style::Plain)
}

/// What a new host has that is not the default.
fn settings(host: &PlannedHost) -> String {
    let backup = if host.backup { ", backup" } else { "" };
    format!("weight {}{backup}", host.weight)
}

fn differences(before: &PlannedHost, after: &PlannedHost) -> String {
    let mut differences = Vec::new();
    if before.address != after.address {
        differences.push(format!("address {} to {}", before.address, after.address));
    }
    if before.weight != after.weight {
        differences.push(format!("weight {} to {}", before.weight, after.weight));
    }
    match (before.backup, after.backup) {
        (false, true) => differences.push("becomes a backup".to_owned()),
        (true, false) => differences.push("is no longer a backup".to_owned()),
        _ => {}
    }
    match differences.is_empty() {
        // It changes in the file, which ends what an operator has said.
        true => "is no longer drained".to_owned(),
        false => differences.join(", "),
    }
}

fn connection_lines(connections: &ConnectionPlan) -> Vec<StyledLine> {
    if !connections.all_end {
        return vec![indented("none ends", Style::Good)];
    }
    let open = match connections.open {
        Some(open) => format!("all {open} end"),
        None => "all end".to_owned(),
    };
    let grace = Duration::from_millis(connections.grace_period_ms.unwrap_or(0));
    let grace = humantime::format_duration(grace);
    let busy = match (connections.in_flight, connections.tunnels) {
        (Some(requests), Some(tunnels)) => format!(
            "{} in flight ({}) have up to {grace}",
            count(requests, "request"),
            count(tunnels, "tunnel"),
        ),
        _ => format!("requests and tunnels have up to {grace}"),
    };
    let all = format!("{open} with this process: idle ones within seconds, {busy}");
    let removed = connections.removed_listeners.iter();
    let removed = removed.map(|RemovedListener { address, open }| {
        let open = open.map(|open| format!(" of {}", count(open, "connection")));
        let open = open.unwrap_or_default();
        let text = format!("listener {address} goes away: clients{open} cannot connect again");
        indented(&text, Style::Bad)
    });
    let all = indented(&all, Style::Passing);
    std::iter::once(all).chain(removed).collect()
}

fn indented(text: &str, style: Style) -> StyledLine {
    StyledLine::new("  ", Style::Plain).and(text, style)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
