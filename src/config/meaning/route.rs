//! `routes`: which requests go to which pool.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use super::super::access::Access;
use super::super::errors::Problems;
use super::super::model::{Ambiguous, Paths, Retry, Route, begins_with_segments};
use super::super::place::Place;
use super::super::words::{choice, did_you_mean, quote};
use super::super::yaml;
use super::edge;
use crate::normalize;

/// Every route is compared with all before it; this keeps the comparison within a blink.
const MOST_ROUTES: usize = 4_096;

/// The routes to the pools of these names. `top` is where `routes` and `pools` stand.
pub(super) fn routes(
    said: Vec<yaml::Route>,
    pools: &[String],
    top: &Place,
    problems: &mut Problems,
) -> Vec<Route> {
    let place = top.key("routes");
    if said.is_empty() {
        if pools.len() > 1 {
            problems.add(
                &place,
                "there is no route; with more than one pool, `routes` has to tell which requests go where",
            );
        }
        return vec![Route {
            host: None,
            path: None,
            pool: 0,
            retry: Retry::default(),
            access: Access::default(),
            rate: None,
        }];
    }
    if said.len() > MOST_ROUTES {
        let count = said.len();
        problems.add(
            &place,
            format!("there are {count} routes; at most {MOST_ROUTES} are served"),
        );
        return Vec::new();
    }
    let before = problems.count();
    let index = HashMap::from_iter(
        pools
            .iter()
            .enumerate()
            .map(|(index, name)| (name.as_str(), index)),
    );
    let routes = Vec::from_iter(said.into_iter().enumerate().filter_map(|(number, said)| {
        let route = route(said, pools, &index, &place.index(number), problems)?;
        Some((number, route))
    }));
    // Without the routes that failed, these two would accuse the innocent.
    if problems.count() == before {
        report_hidden(&routes, &place, problems);
        report_unreached(&routes, pools, top, problems);
    }
    routes.into_iter().map(|(_, route)| route).collect()
}

fn route(
    said: yaml::Route,
    pools: &[String],
    index: &HashMap<&str, usize>,
    place: &Place,
    problems: &mut Problems,
) -> Option<Route> {
    let yaml::Route {
        host,
        path,
        pool,
        retry,
        allow,
        deny,
        rate,
    } = said;
    let host = problems.optional(&place.key("host"), host.0, self::host);
    let path = problems.optional(&place.key("path"), path.0, self::path);
    let retry = problems.value(&place.key("retry"), retry.0, Retry::default(), |text| {
        choice(
            text,
            &[
                ("idempotent", Retry::Idempotent),
                ("any_method", Retry::AnyMethod),
            ],
        )
    });
    let access = edge::access(allow, deny, place, problems);
    let rate = edge::rate(rate, &place.key("rate"), problems);
    let Some(name) = pool.0 else {
        problems.add(place, "`pool` is missing, the name of the pool");
        return None;
    };
    let Some(pool) = index.get(name.as_str()) else {
        let hint = match pools {
            _ if problems.is_full() => String::new(),
            [only] => format!("; did you mean `{only}`?"),
            _ => did_you_mean(&name, pools.iter().map(String::as_str)),
        };
        let shown = quote(&name);
        problems.add(
            &place.key("pool"),
            format!("there is no pool {shown}{hint}"),
        );
        return None;
    };
    Some(Route {
        host,
        path,
        pool: *pool,
        retry,
        access,
        rate,
    })
}

pub(super) fn paths(said: yaml::Paths, place: &Place, problems: &mut Problems) -> Paths {
    let yaml::Paths { ambiguous } = said;
    let choices = [
        ("auto", Ambiguous::Auto),
        ("reject", Ambiguous::Reject),
        ("pass", Ambiguous::Pass),
    ];
    Paths {
        ambiguous: problems.value(
            &place.key("ambiguous"),
            ambiguous.0,
            Ambiguous::default(),
            |text| choice(text, &choices),
        ),
    }
}

/// Reads a host name, perhaps with `*.` in front.
fn host(text: &str) -> Result<String, String> {
    let shown = quote(text);
    let lower = text.to_lowercase();
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    if let Some(address) = lower
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return Ok(format!("[{address}]"));
    }
    if is_v6(&lower) {
        return Err(format!("{shown} needs brackets; did you mean `[{lower}]`?"));
    }
    if let Some((name, port)) = lower.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Err(format!(
            "{shown} has a port, but routes go by the name alone; did you mean {}?",
            quote(name)
        ));
    }
    if let Some(name) = lower.strip_suffix('.')
        && !name.is_empty()
    {
        return Err(format!(
            "{shown} ends in a dot, without which names are compared; did you mean {}?",
            quote(name)
        ));
    }
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name
        .split('.')
        .all(|label| !label.is_empty() && label.chars().all(proper))
    {
        return Ok(lower);
    }
    Err(format!(
        "{shown} is not a host name such as `api.example.com` or `*.example.com`"
    ))
}

/// Reads the beginning of a path.
fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{} does not begin with `/`", quote(text)));
    }
    match text
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#'))
    {
        None => normal_path(text),
        Some(wrong) => Err(format!(
            "{} has {wrong:?} in it, which the path of a request never has",
            quote(text)
        )),
    }
}

/// The form of a path that those of requests are compared in. What they never have in that form is a slip.
fn normal_path(text: &str) -> Result<String, String> {
    let normalize::NormalPath { path, ambiguous } = normalize::path(text.as_bytes());
    let normal = String::from_utf8_lossy(&path).into_owned();
    if ambiguous {
        return Err(format!(
            "{} is a path that hosts read in several ways",
            quote(text)
        ));
    }
    if let Some(wrong) = text.chars().find(|c| matches!(c, ';' | '\\')) {
        return Err(format!(
            "{} has {wrong:?} in it, which paths are compared without; did you mean {}?",
            quote(text),
            quote(&normal)
        ));
    }
    Ok(normal)
}

/// Reports each route that no request can get to, because an earlier one takes everything that it would match.
fn report_hidden(routes: &[(usize, Route)], place: &Place, problems: &mut Problems) {
    for (position, (number, route)) in routes.iter().enumerate() {
        let earlier = routes[..position].iter();
        if let Some((first, _)) = earlier
            .into_iter()
            .find(|(_, earlier)| covers(earlier, route))
        {
            problems.add(
                &place.index(*number),
                format!(
                    "no request gets here, because routes[{first}] takes everything that this one would match; put this one first or drop it"
                ),
            );
        }
    }
}

/// Whether `wide` matches every request that `narrow` matches.
fn covers(wide: &Route, narrow: &Route) -> bool {
    let host = match (wide.host.as_deref(), narrow.host.as_deref()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => match wide.strip_prefix('*') {
            // ".example.com" ends what it covers: names and patterns below example.com, but not that name itself.
            Some(ending) => {
                narrow.strip_prefix('*').unwrap_or(narrow).ends_with(ending)
                    && narrow.len() > ending.len()
            }
            None => wide == narrow,
        },
    };
    // Every path begins with "/".
    let path = |route: &Route| route.path.clone().unwrap_or_else(|| "/".to_owned());
    host && begins_with_segments(path(narrow).as_bytes(), path(wide).as_bytes())
}

/// Reports each pool that no route leads to.
fn report_unreached(
    routes: &[(usize, Route)],
    pools: &[String],
    top: &Place,
    problems: &mut Problems,
) {
    let mut reached = vec![false; pools.len()];
    for (_, route) in routes {
        reached[route.pool] = true;
    }
    for (name, _) in pools.iter().zip(reached).filter(|(_, reached)| !reached) {
        problems.add(
            &top.key("pools").key(name),
            format!("no route leads to the pool {}", quote(name)),
        );
    }
}
