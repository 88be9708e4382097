//! What is in force for each pool and each route, and which key of the file says so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::compression::Compression;
use super::document::{Node, Position};
use super::errors::ConfigErrors;
use super::load;
use super::pool::Pool;
use super::rate::Rate;
use super::retries::Retries;
use super::root::Config;
use super::route::{Action, Authentication, PoolRef, Route};
use super::scalars::{format_size, format_time};
use super::status::format_ranges;
use super::timeouts::Timeouts;

/// What is in force for all requests, for a pool, or for the requests of a route to a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveScope {
    /// The path of the key, such as `pools.web`.
    pub name: String,
    /// Which requests, and where they go.
    pub about: String,
    /// The values in force.
    pub values: Vec<EffectiveValue>,
}

/// A value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveValue {
    /// The key, such as `timeouts.read`.
    pub key: &'static str,
    /// The value as a person writes it.
    pub value: String,
    /// The path of the key that says so, or `default`.
    pub origin: String,
    /// Where that key is: a line, with the file if that is an included one.
    pub place: Option<String>,
}

impl Config {
    /// What is in force for each pool and each route by this configuration. `path` is its file.
    ///
    /// # Errors
    /// The file cannot be read, or it is not YAML.
    pub fn effective(&self, path: &Path) -> Result<Vec<EffectiveScope>, ConfigErrors> {
        let (root, files) = load::root(path)?;
        let source = Source {
            root: &root,
            files: &files,
        };
        let mut scopes = vec![self.all_requests(source)];
        scopes.extend(self.pools.iter().map(|pool| self.pool_scope(pool, source)));
        for (index, route) in self.routes.iter().enumerate() {
            scopes.extend(self.route_scopes(index, route, source));
        }
        Ok(scopes)
    }

    fn all_requests(&self, source: Source<'_>) -> EffectiveScope {
        let mut values = Values::new(vec![Place::top(source)]);
        values.add("limits.body", size(self.limits.body));
        values.add("limits.max_in_flight", count(self.limits.max_in_flight));
        values.add("limits.rate", rate(self.limits.rate.as_ref()));
        EffectiveScope {
            name: "all requests".to_owned(),
            about: String::new(),
            values: values.list,
        }
    }

    fn pool_scope(&self, pool: &Pool, source: Source<'_>) -> EffectiveScope {
        let mut values = Values::new(vec![Place::pool(source, pool), Place::top(source)]);
        let timeouts = pool.timeouts.over(self.timeouts);
        values.add_timeouts(&timeouts);
        values.add("timeouts.idle", format_time(timeouts.idle));
        values.add_retries(pool.retries.as_ref());
        let own = &mut Values::new(vec![Place::pool(source, pool)]);
        own.add("limits.max_in_flight", count(pool.limits.max_in_flight));
        values.list.append(&mut own.list);
        EffectiveScope {
            name: format!("pools.{}", pool.name),
            about: String::new(),
            values: values.list,
        }
    }

    /// One for each pool that the route leads to.
    fn route_scopes(&self, index: usize, route: &Route, source: Source<'_>) -> Vec<EffectiveScope> {
        let is_written = source
            .root
            .get("routes")
            .is_some_and(|routes| routes.elements().len() > index);
        let name = match is_written {
            true => format!("routes[{index}]"),
            false => "the route that every request takes".to_owned(),
        };
        let of_route = || Place {
            prefix: format!("routes[{index}]."),
            source,
            node: source
                .root
                .get("routes")
                .and_then(|routes| routes.elements().get(index)),
        };
        let matched = route.matches.to_string();
        let scope = |pool: Option<&PoolRef>, goes: String| {
            let pool = pool.map(|pool| &self.pools[pool.index]);
            let mut places = vec![of_route()];
            places.extend(pool.map(|pool| Place::pool(source, pool)));
            places.push(Place::top(source));
            let mut values = Values::new(places);
            if let Some(pool) = pool {
                values.add_timeouts(&self.request_timeouts(route, Some(pool)));
                values.add_retries(Config::request_retries(route, pool).as_ref());
            }
            let mut top = Values::new(vec![of_route(), Place::top(source)]);
            top.add("limits.body", size(self.body_limit(route)));
            if pool.is_some() {
                top.add_compression(self.response_compression(route).as_ref());
            }
            let mut own = Values::new(vec![of_route()]);
            own.add("limits.max_in_flight", count(route.limits.max_in_flight));
            own.add("rate", rate(route.rate.as_ref()));
            let Authentication { basic_auth, auth } = &route.authentication;
            if let Some(basic) = basic_auth {
                own.add("basic_auth", basic.to_string());
            }
            if let Some(auth) = auth {
                own.add("auth", auth.to_string());
            }
            values.list.append(&mut top.list);
            values.list.append(&mut own.list);
            EffectiveScope {
                name: name.clone(),
                about: [matched.clone(), goes].join(" ").trim_start().to_owned(),
                values: values.list,
            }
        };
        match route.action.get() {
            Action::Pool(pool) => vec![scope(Some(pool), format!("-> pool {}", pool.name))],
            Action::Split(shares, _) => {
                let sum: u32 = shares.iter().map(|share| share.weight).sum();
                let scopes = shares.iter().map(|share| {
                    let (weight, name) = (share.weight, &share.pool.name);
                    scope(
                        Some(&share.pool),
                        format!("-> pool {name}, {weight} of {sum}"),
                    )
                });
                scopes.collect()
            }
            Action::Redirect(_) => vec![scope(None, "-> a redirect".to_owned())],
            Action::Respond(_) => vec![scope(None, "-> a response".to_owned())],
        }
    }

    /// The timeouts of a route's requests to a pool; `None`: the route responds itself.
    pub fn request_timeouts(&self, route: &Route, pool: Option<&Pool>) -> Timeouts {
        let above = pool.map_or(self.timeouts, |pool| pool.timeouts.over(self.timeouts));
        route.timeouts.over(above)
    }

    /// The retries of a route's requests to a pool.
    pub fn request_retries(route: &Route, pool: &Pool) -> Option<Retries> {
        let above = pool.retries.as_ref()?;
        match &route.retries {
            None => Some(above.clone()),
            Some(retries) => Some(retries.as_ref()?.over(above)),
        }
    }

    /// How responses of hosts on a route are compressed; `None`: they are not.
    pub fn response_compression(&self, route: &Route) -> Option<Compression> {
        match &route.compression {
            None => self.compression.clone(),
            Some(None) => None,
            Some(Some(own)) => Some(match &self.compression {
                Some(above) => own.over(above),
                None => own.over(&Compression::default()),
            }),
        }
    }

    /// The longest body of a route's requests; `None`: no limit.
    pub fn body_limit(&self, route: &Route) -> Option<u64> {
        route.limits.body.unwrap_or(self.limits.body)
    }
}

/// All files as one tree.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    root: &'a Node,
    files: &'a [PathBuf],
}

/// A map of the file that may say something, with the path of its keys.
struct Place<'a> {
    source: Source<'a>,
    prefix: String,
    node: Option<&'a Node>,
}

impl<'a> Place<'a> {
    fn top(source: Source<'a>) -> Self {
        Place {
            prefix: String::new(),
            source,
            node: Some(source.root),
        }
    }

    fn pool(source: Source<'a>, pool: &Pool) -> Self {
        Place {
            prefix: format!("pools.{}.", pool.name),
            source,
            node: source
                .root
                .get("pools")
                .and_then(|pools| pools.get(&pool.name)),
        }
    }

    /// The path and the place of a key, if it is written here. A word such as `none` stands for all keys below it.
    fn find(&self, key: &str) -> Option<(String, String)> {
        let mut node = self.node?;
        let mut path = self.prefix.clone();
        let mut position = node.position;
        for (depth, step) in key.split('.').enumerate() {
            match node.text() {
                // `true` asks for what holds anyway.
                Some("true") if depth > 0 => return None,
                Some(_) if depth > 0 => break,
                _ => {}
            }
            let mut entries = node.entries().iter();
            let entry = entries.find(|entry| entry.key == step)?;
            (node, position) = (&entry.value, entry.position);
            if depth > 0 {
                path.push('.');
            }
            path.push_str(step);
        }
        let Position { file, line, .. } = position;
        let included = (file > 0).then(|| self.source.files.get(file)).flatten();
        let place = match included {
            Some(file) => format!("{}, line {line}", file.display()),
            None => format!("line {line}"),
        };
        Some((path, place))
    }
}

/// Collects values, each from the first of these places that says it.
struct Values<'a> {
    places: Vec<Place<'a>>,
    list: Vec<EffectiveValue>,
}

impl<'a> Values<'a> {
    fn new(places: Vec<Place<'a>>) -> Self {
        Values {
            places,
            list: Vec::new(),
        }
    }

    fn add(&mut self, key: &'static str, value: String) {
        let found = self.places.iter().find_map(|place| place.find(key));
        let (origin, place) = match found {
            Some((path, place)) => (path, Some(place)),
            None => ("default".to_owned(), None),
        };
        self.list.push(EffectiveValue {
            key,
            value,
            origin,
            place,
        });
    }

    fn add_timeouts(&mut self, timeouts: &Timeouts) {
        let times: [(&'static str, Duration); 4] = [
            ("timeouts.connect", timeouts.connect),
            ("timeouts.read", timeouts.read),
            ("timeouts.write", timeouts.write),
            ("timeouts.tunnel", timeouts.tunnel),
        ];
        for (key, time) in times {
            self.add(key, format_time(time));
        }
    }

    fn add_compression(&mut self, compression: Option<&Compression>) {
        let Some(compression) = compression else {
            return self.add("compression", "false".to_owned());
        };
        let algorithms = compression.algorithms.iter().map(|coding| coding.name());
        let types = compression.types.iter().map(ToString::to_string);
        self.add(
            "compression.algorithms",
            Vec::from_iter(algorithms).join(", "),
        );
        self.add("compression.types", Vec::from_iter(types).join(", "));
        self.add("compression.min_size", format_size(compression.min_size));
    }

    fn add_retries(&mut self, retries: Option<&Retries>) {
        let Some(retries) = retries else {
            return self.add("retries", "none".to_owned());
        };
        self.add("retries.attempts", retries.attempts.to_string());
        self.add("retries.statuses", format_ranges(&retries.statuses));
        self.add("retries.deadline", format_time(retries.deadline));
    }
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "no limit".to_owned(), format_size)
}

fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "no limit".to_owned(), |count| count.to_string())
}

fn rate(rate: Option<&Rate>) -> String {
    rate.map_or_else(|| "no limit".to_owned(), Rate::to_string)
}
