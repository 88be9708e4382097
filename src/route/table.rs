//! Many routes by host and path: a request is compared only with those that may match it.
//!
//! The maps hold hashes instead of the texts: all conditions of what they find are checked anyway, so that two texts with
//! one hash only cost a comparison. The texts are the configuration's, so that no client can choose them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::conditions::{HostPattern, PathKey};
use super::{NormalizedInput, RouteMatcher};

/// The routes of a configuration by host.
#[derive(Debug)]
pub(super) struct RouteTable {
    any_host: HostRoutes,
    /// By the name, or by the octets of an IPv6 literal, which has many spellings.
    names: ByHash<HostRoutes>,
    /// By `.example.com` for `*.example.com`.
    subdomains: ByHash<HostRoutes>,
    /// The lengths of the keys of `subdomains`, ascending.
    subdomain_lengths: Vec<usize>,
}

/// The routes of one host.
#[derive(Debug, Default)]
struct HostRoutes {
    /// Whether any of them is restricted.
    is_restricted: bool,
    /// Those that are tried one after the other: those that have no place in `by_path`, or all if they are few.
    list: Indices,
    by_path: Option<Box<ByPath>>,
}

/// Routes by path.
#[derive(Debug, Default)]
struct ByPath {
    prefixes: ByHash<Indices>,
    /// The lengths of the keys of `prefixes`, ascending.
    prefix_lengths: Vec<usize>,
    exact: ByHash<Indices>,
}

/// Indices of routes, ascending.
#[derive(Debug, Default)]
enum Indices {
    #[default]
    None,
    One(usize),
    Many(Box<[usize]>),
}

type ByHash<V> = HashMap<u64, V, BuildHasherDefault<Hashed>>;

impl RouteTable {
    /// `max_scanned`: so many routes of a host are tried one after the other.
    pub(super) fn new(routes: &[RouteMatcher], max_scanned: usize) -> Self {
        let mut any_host = Vec::new();
        let mut names = ByHash::<Vec<usize>>::default();
        let mut subdomains = ByHash::<Vec<usize>>::default();
        let mut subdomain_lengths = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let indices = match &route.conditions.host {
                HostPattern::Any => &mut any_host,
                HostPattern::Address(address) => names.entry(hash(&address.octets())).or_default(),
                HostPattern::Exact(name) => names.entry(hash(name)).or_default(),
                HostPattern::Subdomain(ending) => {
                    subdomain_lengths.push(ending.len());
                    subdomains.entry(hash(ending)).or_default()
                }
            };
            indices.push(index);
        }
        let of_host = |indices| HostRoutes::new(indices, routes, max_scanned);
        let of_hosts = |map: ByHash<Vec<usize>>| {
            let map = map.into_iter();
            ByHash::from_iter(map.map(|(hash, indices)| (hash, of_host(indices))))
        };
        RouteTable {
            any_host: of_host(any_host),
            names: of_hosts(names),
            subdomains: of_hosts(subdomains),
            subdomain_lengths: ascending(subdomain_lengths),
        }
    }

    /// The first route that matches, by `matches` for the route at an index.
    pub(super) fn first(
        &self,
        request: &NormalizedInput<'_>,
        matches: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut first = None;
        self.for_host(request, |routes| {
            routes.first(request, &matches, &mut first)
        });
        first
    }

    /// Whether any route for the host of a request is restricted.
    pub(super) fn is_restricted(&self, request: &NormalizedInput<'_>) -> bool {
        let mut is_restricted = false;
        self.for_host(request, |routes| is_restricted |= routes.is_restricted);
        is_restricted
    }

    /// Calls `visit` with all routes whose host the request may have.
    fn for_host<'a>(
        &'a self,
        request: &NormalizedInput<'_>,
        mut visit: impl FnMut(&'a HostRoutes),
    ) {
        let host = request.host;
        if !self.names.is_empty() {
            let hash = match &request.address {
                Some(address) => hash(&address.octets()),
                None => hash(host),
            };
            self.names.get(&hash).into_iter().for_each(&mut visit);
        }
        for length in &self.subdomain_lengths {
            let Some(begin) = host.len().checked_sub(*length) else {
                break;
            };
            let ending = &host[begin..];
            if ending.starts_with(b".") {
                let routes = self.subdomains.get(&hash(ending));
                routes.into_iter().for_each(&mut visit);
            }
        }
        visit(&self.any_host);
    }
}

impl HostRoutes {
    fn new(indices: Vec<usize>, routes: &[RouteMatcher], max_scanned: usize) -> Self {
        let is_restricted = indices.iter().any(|index| routes[*index].restricted);
        if indices.len() <= max_scanned {
            return HostRoutes {
                is_restricted,
                list: indices.into(),
                by_path: None,
            };
        }
        let mut list = Vec::new();
        let mut prefixes = ByHash::<Vec<usize>>::default();
        let mut prefix_lengths = Vec::new();
        let mut exact = ByHash::<Vec<usize>>::default();
        for index in indices {
            let indices = match routes[index].conditions.path() {
                PathKey::Prefix(prefix) => {
                    prefix_lengths.push(prefix.len());
                    prefixes.entry(hash(prefix)).or_default()
                }
                PathKey::Exact(path) => exact.entry(hash(path)).or_default(),
                PathKey::Other => &mut list,
            };
            indices.push(index);
        }
        let indices = |map: ByHash<Vec<usize>>| {
            let map = map.into_iter();
            ByHash::from_iter(map.map(|(hash, indices)| (hash, indices.into())))
        };
        HostRoutes {
            is_restricted,
            list: list.into(),
            by_path: Some(Box::new(ByPath {
                prefixes: indices(prefixes),
                prefix_lengths: ascending(prefix_lengths),
                exact: indices(exact),
            })),
        }
    }

    /// Replaces `first` by the first route that matches, if that one is before it.
    fn first(
        &self,
        request: &NormalizedInput<'_>,
        matches: impl Fn(usize) -> bool,
        first: &mut Option<usize>,
    ) {
        let mut try_all = |indices: &Indices| {
            for index in indices.as_slice() {
                if first.is_some_and(|first| first <= *index) {
                    break;
                }
                if matches(*index) {
                    *first = Some(*index);
                    break;
                }
            }
        };
        if let Some(by_path) = &self.by_path {
            let path = request.path;
            if !by_path.exact.is_empty()
                && let Some(indices) = by_path.exact.get(&hash(path))
            {
                try_all(indices);
            }
            for length in &by_path.prefix_lengths {
                let Some((prefix, rest)) = path.split_at_checked(*length) else {
                    break;
                };
                // Prefixes end with whole segments.
                if (prefix.ends_with(b"/") || matches!(rest, [] | [b'/', ..]))
                    && let Some(indices) = by_path.prefixes.get(&hash(prefix))
                {
                    try_all(indices);
                }
            }
        }
        // Expressions cost most: those after a route that has matched are not tried.
        try_all(&self.list);
    }
}

impl Indices {
    fn as_slice(&self) -> &[usize] {
        match self {
            Indices::None => &[],
            Indices::One(index) => std::slice::from_ref(index),
            Indices::Many(indices) => indices,
        }
    }
}

impl From<Vec<usize>> for Indices {
    fn from(indices: Vec<usize>) -> Self {
        match indices[..] {
            [] => Indices::None,
            [index] => Indices::One(index),
            _ => Indices::Many(indices.into()),
        }
    }
}

fn ascending(mut lengths: Vec<usize>) -> Vec<usize> {
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

/// The hash of a text, in which case does not count. It mixes words of eight bytes by multiplication.
fn hash(text: &[u8]) -> u64 {
    /// The bit that tells small letters from capitals.
    const SMALL: u64 = 0x2020_2020_2020_2020;
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = text.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = text.len() as u64;
    for word in words.iter().chain([&last]) {
        hash = (hash ^ (u64::from_le_bytes(*word) | SMALL)).wrapping_mul(PRIME);
        hash ^= hash >> 32;
    }
    hash.wrapping_mul(PRIME)
}

/// Takes a hash as it is.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
