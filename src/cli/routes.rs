//! `ballast routes`: the routes of a configuration as a table.

use std::fmt::Write;

use super::explain::shown;
use super::{CliError, ConfigArg};
use crate::config::{Access, Action, Retry, Route};

/// The widest column of what routes match. A longer text moves only its own line out of alignment.
const MAX_COLUMN: usize = 60;

pub(super) fn routes(config: &ConfigArg) -> Result<(), CliError> {
    let config = config.load()?;
    print!("{}", table(&config.routes));
    Ok(())
}

/// The number of each route, what it matches, and what it does.
fn table(routes: &[Route]) -> String {
    let lines = routes.iter().map(|route| {
        [route.matches.to_string(), action(route)]
            .map(|text| text.chars().flat_map(shown).collect::<String>())
    });
    let lines = Vec::from_iter(lines);
    let widths = lines.iter().map(|[matches, _]| matches.chars().count());
    let fitting = widths.filter(|width| *width <= MAX_COLUMN);
    let width = fitting.max().unwrap_or(0).max("MATCHES".len());
    let number_width = lines.len().to_string().len();
    let mut text = format!("{:>number_width$}  {:width$}  DOES\n", "#", "MATCHES");
    for (index, [matches, action]) in lines.iter().enumerate() {
        let number = index + 1;
        writeln!(text, "{number:>number_width$}  {matches:width$}  {action}")
            .expect("writing to a String cannot fail");
    }
    text
}

/// What a route does, with what is not the default.
fn action(route: &Route) -> String {
    let mut parts = vec![match route.action.get() {
        Action::Pool(pool) => format!("pool {}", pool.name),
        Action::Split(shares, key) => {
            let shares = shares.iter();
            let shares = shares.map(|share| format!("{} {}", share.pool.name, share.weight));
            let shares = Vec::from_iter(shares).join(", ");
            let key = key.map(|key| format!(" by {key}"));
            format!("pools {shares}{}", key.unwrap_or_default())
        }
        Action::Redirect(redirect) => {
            format!("redirect {} {}", redirect.status, redirect.to.text())
        }
        Action::Respond(respond) => format!("respond {}", respond.status),
    }];
    if let Some(mirror) = &route.mirror {
        parts.push(format!("mirror {} {}", mirror.pool.name, mirror.share));
    }
    match route.retry {
        Retry::Idempotent => {}
        Retry::AnyMethod => parts.push("retry any_method".to_owned()),
    }
    let Access { allow, deny } = &route.access;
    for (key, networks) in [("allow", allow), ("deny", deny)] {
        if !networks.is_empty() {
            let networks = Vec::from_iter(networks.iter().map(|network| network.to_string()));
            parts.push(format!("{key} {}", networks.join(" ")));
        }
    }
    if route.authentication.is_required() {
        parts.push(route.authentication.to_string());
    }
    if let Some(rate) = &route.rate {
        parts.push(format!("rate {rate}"));
    }
    parts.join(", ")
}
