//! Routes that no request can reach.

use std::collections::{BTreeSet, HashMap};

use super::{PathPattern, Route, RouteMatch};
use crate::config::document::Node;
use crate::config::schema::Reader;

/// Comparisons of two routes, in all. A file has more only if thousands of its routes have the same host and path; the
/// rest of those is not compared.
const MAX_COMPARISONS: usize = 2_000_000;

/// Reports each route that no request can reach, because an earlier one matches all that it would match.
pub(super) fn report(node: &Node, routes: &[(usize, Route)], reader: &mut Reader<'_>) {
    if routes.is_empty() && node.elements().is_empty() && reader.pools.len() > 1 {
        let message =
            "there is no route; with more than one pool, `routes` says which requests go where";
        reader.problem(node, message);
    }
    if routes.len() < node.elements().len() {
        // The earlier ones are not all known.
        return;
    }
    let mut earlier = EarlierRoutes::default();
    for (index, route) in routes {
        let route = &route.matches;
        let message = if route.matches_nothing() {
            Some("no request gets here, because `not` has all that this route would match; change one of them".to_owned())
        } else {
            earlier.covering(route).map(|first| {
                let place = place(node, first, *index, reader);
                format!(
                    "no request gets here, because routes[{first}]{place} matches all that this one would match; put this one first or remove it"
                )
            })
        };
        if let (Some(message), Some(element)) = (message, node.elements().get(*index)) {
            reader.in_element(*index, |reader| reader.problem(element, message));
        }
        earlier.push(*index, route);
    }
}

/// Where an element is, if that is another file than that of `other`.
fn place(node: &Node, index: usize, other: usize, reader: &Reader<'_>) -> String {
    let element = |index: usize| node.elements().get(index);
    match (element(index), element(other)) {
        (Some(found), Some(other)) if found.position.file != other.position.file => {
            format!(", at {},", reader.place(found))
        }
        _ => String::new(),
    }
}

/// The routes before another one, by host and path.
#[derive(Default)]
struct EarlierRoutes<'a> {
    any_host: ByPath<'a>,
    /// By the name, or by the whole pattern.
    hosts: HashMap<&'a str, ByPath<'a>>,
    /// By `.example.com` for `*.example.com`.
    subdomains: HashMap<&'a str, ByPath<'a>>,
    subdomain_lengths: BTreeSet<usize>,
    comparisons: usize,
}

/// Routes of one host, each with its number.
#[derive(Default)]
struct ByPath<'a> {
    prefixes: HashMap<&'a str, Vec<(usize, &'a RouteMatch)>>,
    prefix_lengths: BTreeSet<usize>,
    exact: HashMap<&'a str, Vec<(usize, &'a RouteMatch)>>,
    regexes: HashMap<&'a str, Vec<(usize, &'a RouteMatch)>>,
}

impl<'a> EarlierRoutes<'a> {
    fn push(&mut self, index: usize, route: &'a RouteMatch) {
        let by_path = match route.conditions.host.as_deref() {
            None => &mut self.any_host,
            Some(host) => match host.strip_prefix('*') {
                Some(ending) => {
                    self.subdomain_lengths.insert(ending.len());
                    self.subdomains.entry(ending).or_default()
                }
                None => self.hosts.entry(host).or_default(),
            },
        };
        let same_path = match &route.conditions.path {
            None => by_path.prefix("/"),
            Some(PathPattern::Prefix(prefix)) => by_path.prefix(prefix),
            Some(PathPattern::Exact(path)) => by_path.exact.entry(path).or_default(),
            Some(PathPattern::Regex(regex)) => by_path.regexes.entry(regex.text()).or_default(),
        };
        same_path.push((index, route));
    }

    /// The first route that covers another one.
    fn covering(&mut self, route: &RouteMatch) -> Option<usize> {
        let mut found = None;
        let mut compare = |earlier: &[(usize, &RouteMatch)]| {
            for (index, earlier) in earlier {
                if found.is_some_and(|found| found <= *index) || self.comparisons == MAX_COMPARISONS
                {
                    break;
                }
                self.comparisons += 1;
                if earlier.covers(route) {
                    found = Some(*index);
                    break;
                }
            }
        };
        let path = route.conditions.path.as_ref();
        self.any_host.with_wider(path, &mut compare);
        if let Some(host) = route.conditions.host.as_deref() {
            if let Some(by_path) = self.hosts.get(host) {
                by_path.with_wider(path, &mut compare);
            }
            let name = host.strip_prefix('*').unwrap_or(host);
            for length in self.subdomain_lengths.range(..=name.len()) {
                let ending = name.get(name.len() - length..);
                if let Some(by_path) = ending.and_then(|ending| self.subdomains.get(ending)) {
                    by_path.with_wider(path, &mut compare);
                }
            }
        }
        found
    }
}

impl<'a> ByPath<'a> {
    fn prefix(&mut self, prefix: &'a str) -> &mut Vec<(usize, &'a RouteMatch)> {
        self.prefix_lengths.insert(prefix.len());
        self.prefixes.entry(prefix).or_default()
    }

    /// Calls `compare` with the routes whose path may cover `path`.
    fn with_wider(
        &self,
        path: Option<&PathPattern>,
        compare: &mut impl FnMut(&[(usize, &RouteMatch)]),
    ) {
        let text = match path {
            Some(PathPattern::Prefix(text) | PathPattern::Exact(text)) => text,
            None | Some(PathPattern::Regex(_)) => "/",
        };
        for length in self.prefix_lengths.range(..=text.len()) {
            let prefix = text.get(..*length);
            if let Some(routes) = prefix.and_then(|prefix| self.prefixes.get(prefix)) {
                compare(routes);
            }
        }
        let same = match path {
            Some(PathPattern::Exact(path)) => self.exact.get(path.as_str()),
            Some(PathPattern::Regex(regex)) => self.regexes.get(regex.text()),
            None | Some(PathPattern::Prefix(_)) => None,
        };
        if let Some(routes) = same {
            compare(routes);
        }
    }
}
