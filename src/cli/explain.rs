//! `ballast explain`: which host a request would be sent to, and why.

use std::net::IpAddr;
use std::time::Duration;

use super::control_client::{parse, request};
use super::{CliError, ProcessArg, runtime_error};
use crate::admin::API_EXPLAIN;
use crate::pool::{CandidateStatus, HostExplanation, SelectionOutcome};
use crate::proxy::{ExplainRequest, ExplainedSplit, RequestExplanation, UnmatchedRoute};

/// The process responds at once; this only bounds a hung process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum width of an output line, in columns; longer lines are truncated.
const MAX_WIDTH: usize = 100;

/// Describes the request to explain.
#[derive(Debug, clap::Args)]
pub(super) struct RequestArg {
    /// Send the request to this pool instead of matching the routes
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// A header field; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// The path, optionally with a query
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// The Host field
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The name in the client's certificate, such as `CN=ann`; without this option the client has none
    #[arg(long, value_name = "SUBJECT")]
    client_certificate: Option<String>,
    /// A host that the request has already tried; may be repeated
    #[arg(long, value_name = "HOST")]
    tried: Vec<String>,
    /// Print the response of the process as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    process: ProcessArg,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("`{}` has no colon", text.escape_debug()))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn explain(args: &RequestArg) -> Result<(), CliError> {
    let explain_request = ExplainRequest {
        pool: args.pool.clone(),
        method: Some(args.method.clone()),
        host: args.host.clone(),
        path: Some(args.path.clone()),
        headers: args.headers.clone(),
        client: args.client,
        client_certificate: args.client_certificate.clone(),
        tried: args.tried.clone(),
    };
    let body = serde_json::to_string(&explain_request).map_err(runtime_error)?;
    let response = request(&args.process, "POST", API_EXPLAIN, &body, TIMEOUT)?;
    match args.json {
        true => println!("{response}"),
        false => print!("{}", render(&parse(&response)?)),
    }
    Ok(())
}

/// The matched pool, the outcome, and a line for each earlier route and each host.
fn render(explanation: &RequestExplanation) -> String {
    let mut lines = vec![headline(explanation)];
    lines.extend(explanation.authentication.as_deref().map(authentication));
    lines.extend(explanation.split.as_ref().map(split));
    lines.push(outcome(&explanation.outcome));
    lines.extend(explanation.candidates.iter().find_map(origin));
    lines.extend(unmatched(&explanation.unmatched));
    if !explanation.candidates.is_empty() {
        lines.push(String::new());
        lines.extend(table(&explanation.candidates));
    }
    let lines = lines.into_iter().map(|line| truncate(line) + "\n");
    lines.collect()
}

/// Truncates a line to [`MAX_WIDTH`].
fn truncate(line: String) -> String {
    if line.chars().count() <= MAX_WIDTH {
        return line;
    }
    let start: String = line.chars().take(MAX_WIDTH - 1).collect();
    start + "…"
}

fn headline(explanation: &RequestExplanation) -> String {
    let Some(pool) = &explanation.pool else {
        return match explanation.route {
            Some(route) => format!("no pool, by route {route}"),
            None => "no pool".to_owned(),
        };
    };
    let mut line = format!("pool {pool}");
    if let Some(route) = explanation.route {
        line.push_str(&format!(" by route {route}"));
    }
    if let Some(algorithm) = &explanation.algorithm {
        line.push_str(&format!(", {algorithm}"));
    }
    if let Some(key) = &explanation.key {
        line.push_str(&match &key.value {
            Some(value) => format!(", key {} = `{}`", key.source, value.escape_debug()),
            None => format!(", without the key {}: by the fallback", key.source),
        });
    }
    line
}

/// Why the earlier routes do not match.
fn unmatched(routes: &[UnmatchedRoute]) -> Vec<String> {
    let first = routes.first().map_or(1, |route| route.route);
    let before = (first > 1).then(|| format!("not by the {} routes before these", first - 1));
    let lines = routes.iter().map(|route| {
        let UnmatchedRoute {
            route,
            matches,
            why,
        } = route;
        let matches: String = matches.chars().flat_map(shown).collect();
        let why = match why.as_str() {
            "not" => "one of its exceptions fits".to_owned(),
            condition => format!("the {condition} does not fit"),
        };
        format!("not by route {route}, because {why}: {matches}")
    });
    before.into_iter().chain(lines).collect()
}

/// A character, escaped if it is a control character.
pub(super) fn shown(c: char) -> Vec<char> {
    match c.is_control() {
        true => c.escape_default().collect(),
        false => vec![c],
    }
}

/// How clients tell who they are.
fn authentication(authentication: &str) -> String {
    let authentication = authentication.chars().flat_map(shown);
    format!(
        "if the client is let in: {}",
        authentication.collect::<String>()
    )
}

/// The shares of the pools, and what decides among them.
fn split(split: &ExplainedSplit) -> String {
    let sum: u32 = split.shares.iter().map(|share| share.weight).sum();
    let shares = split.shares.iter().map(|share| {
        let percent = f64::from(share.weight) / f64::from(sum.max(1)) * 100.0;
        let percent = (percent * 100.0).round() / 100.0;
        format!("{} {percent}%", share.pool)
    });
    let decides = match &split.key {
        None => "at random".to_owned(),
        Some(key) => match &key.value {
            Some(value) => format!("by {} = `{}`", key.source, value.escape_debug()),
            None => format!("at random without {}", key.source),
        },
    };
    format!("split {decides}: {}", Vec::from_iter(shares).join(", "))
}

fn outcome(outcome: &SelectionOutcome) -> String {
    match outcome {
        SelectionOutcome::Host { host, why } => format!("goes to {host}: {why}"),
        SelectionOutcome::None { none } => format!(
            "goes nowhere: {}",
            match none.as_str() {
                "no_host" => "no host is usable (no_host)",
                "busy" => "every host is full, so it waits in the queue (busy)",
                "tried" => "every usable host has been tried (tried)",
                "no_route" => "no route matches it (no_route)",
                "redirect" => "its route redirects it (redirect)",
                "respond" => "its route responds itself (respond)",
                "ambiguous_path" => {
                    "its path is ambiguous, so it is rejected with 400 (ambiguous_path)"
                }
                "split" => "its pool is left to chance; --pool NAME explains one of them (split)",
                "maintenance" => "its pool is in maintenance, so it gets 503 (maintenance)",
                "no_certificate" => {
                    "its route requires a certificate of the client, see --client-certificate (no_certificate)"
                }
                "forbidden" => "its route does not allow this client (forbidden)",
                other => other,
            }
        ),
    }
}

/// Where the selected host comes from, if that is a source.
fn origin(candidate: &HostExplanation) -> Option<String> {
    if candidate.verdict != CandidateStatus::Selected || !candidate.is_found() {
        return None;
    }
    let labels = candidate.labels.iter();
    let labels = labels.map(|(label, value)| format!(", {label}={value}"));
    let line = format!(
        "found by {}{}",
        candidate.source,
        labels.collect::<String>()
    );
    Some(line.chars().flat_map(shown).collect())
}

fn table(candidates: &[HostExplanation]) -> Vec<String> {
    let figures = candidates
        .iter()
        .map(|candidate| candidate.load.or(candidate.score));
    let figures = Vec::from_iter(figures.map(|figure| figure.map(number).unwrap_or_default()));
    let title = match candidates.iter().any(|candidate| candidate.score.is_some()) {
        true => "SCORE",
        false => "LOAD",
    };
    let has_figures = figures.iter().any(|figure| !figure.is_empty());
    let hosts = candidates
        .iter()
        .map(|candidate| candidate.host.chars().count());
    let host_width = hosts.max().unwrap_or(0).max("HOST".len());
    let figure_width = figures
        .iter()
        .map(String::len)
        .max()
        .unwrap_or(0)
        .max(title.len());
    let line = |mark: &str, cells: [&str; 4], figure: &str, why: &str| {
        let [host, state, in_flight, weight] = cells;
        let mut line =
            format!("{mark:1} {host:host_width$}  {state:9}  {in_flight:>9}  {weight:>6}");
        if has_figures {
            line.push_str(&format!("  {figure:>figure_width$}"));
        }
        line.push_str("  ");
        line.push_str(why);
        line
    };
    let mut lines = vec![line(
        "",
        ["HOST", "STATE", "IN FLIGHT", "WEIGHT"],
        title,
        "WHY",
    )];
    for (candidate, figure) in candidates.iter().zip(&figures) {
        let mark = match candidate.verdict {
            CandidateStatus::Selected => ">",
            CandidateStatus::Skipped => "",
        };
        let (in_flight, weight) = (
            candidate.in_flight.to_string(),
            candidate.weight.to_string(),
        );
        let cells = [
            &*candidate.host,
            candidate.state.code(),
            &in_flight,
            &weight,
        ];
        let why = format!("{}: {}", candidate.why, candidate.text);
        lines.push(line(mark, cells, figure, &why));
    }
    lines
}

/// Two decimals, or scientific notation for very small and very large numbers.
fn number(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if (0.01..1e6).contains(&size) => format!("{figure:.2}"),
        _ => format!("{figure:.1e}"),
    }
}

#[cfg(test)]
mod tests;
