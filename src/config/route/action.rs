//! What a route does with a request that it matches.

use serde_json::json;

use super::redirect::{Redirect, redirect};
use super::respond::{Respond, respond};
use super::split::{PoolShare, shares};
use crate::config::algorithm::{KeySource, request_key};
use crate::config::document::Node;
use crate::config::hints::{did_you_mean, quote};
use crate::config::schema::{Reader, Scalar, scalar, section};

section! {
    /// What a route does with a request that it matches: one of these keys.
    pub struct RouteAction: Eq {
        /// The name of the pool that gets the requests.
        pool: Option<PoolRef> { pool(), alternative "web" },
        /// The requests are split among these pools by weight: each by itself at random, or as `split_by` says.
        pools: Option<Vec<PoolShare>> { shares(), optional "" },
        /// With `pools`: requests with the same key go to the same pool. When weights change, only as many keys move as the
        /// shares differ by. A request without the key goes to one of the pools at random.
        split_by: Option<KeySource> { request_key(), optional "cookie:session" },
        /// The requests are redirected to this URL: a text, or a map with `to` and `status`. `https://{host}{uri}` is the
        /// same URL over https.
        redirect: Option<Redirect> { redirect(), optional "\"https://{host}{uri}\"" },
        /// The requests get this response.
        respond: Option<Respond> { respond(), optional "{ status: 404 }" },
    }
    check one_action;
}

/// What a route does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Action<'a> {
    /// A host of this pool gets it.
    Pool(&'a PoolRef),
    /// A host of one of these pools gets it: of the pool that the key says, or of any by weight.
    Split(&'a [PoolShare], Option<&'a KeySource>),
    /// The client is redirected.
    Redirect(&'a Redirect),
    /// The client gets a response from the configuration.
    Respond(&'a Respond),
}

impl RouteAction {
    /// The action.
    pub fn get(&self) -> Action<'_> {
        match (&self.pool, &self.pools, &self.redirect, &self.respond) {
            (Some(pool), ..) => Action::Pool(pool),
            (_, Some(pools), ..) => Action::Split(pools, self.split_by.as_ref()),
            (_, _, Some(redirect), _) => Action::Redirect(redirect),
            (_, _, _, Some(respond)) => Action::Respond(respond),
            (None, None, None, None) => {
                unreachable!("a route has one action, which `one_action` checks")
            }
        }
    }

    /// The pools that may get requests.
    pub fn pools(&self) -> impl Iterator<Item = &PoolRef> {
        let shares = self.pools.iter().flatten();
        self.pool.iter().chain(shares.map(|share| &share.pool))
    }
}

fn one_action(action: &mut RouteAction, map: &Node, reader: &mut Reader<'_>) {
    let keys = [
        ("pool", action.pool.is_some()),
        ("pools", action.pools.is_some()),
        ("redirect", action.redirect.is_some()),
        ("respond", action.respond.is_some()),
    ];
    let mut given = keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key);
    match (given.next(), given.next()) {
        (Some(_), None) => {}
        (None, _) => reader.problem(
            map,
            "a route needs one of `pool`, `pools`, `redirect` and `respond`; write it as in `pool: web`",
        ),
        (Some(first), Some(second)) => reader.problem_of_key(
            map,
            second,
            format!("`{first}` says what this route does already; a route does one thing"),
        ),
    }
    if action.split_by.is_some() && action.pools.is_none() {
        let message = "there is nothing to split; `split_by` belongs to a route with `pools`";
        reader.problem_of_key(map, "split_by", message);
    }
}

/// A pool, by its name and its index into [`Config::pools`](crate::config::Config::pools).
#[derive(Debug, Clone)]
pub struct PoolRef {
    /// The name of the pool.
    pub name: String,
    /// Where it is in the list.
    pub index: usize,
}

impl PartialEq for PoolRef {
    /// The index may differ between configurations.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PoolRef {}

/// The name of a pool of the file.
pub(super) fn pool() -> Scalar<PoolRef> {
    let dump = |pool: &PoolRef| json!(pool.name);
    scalar("the name of a pool", |_| Err(String::new()), dump).reading(|name, reader| {
        let index = reader.pools.iter().position(|pool| pool == name);
        index
            .map(|index| PoolRef {
                name: name.to_owned(),
                index,
            })
            .ok_or_else(|| {
                let hint = match reader.pools.as_slice() {
                    _ if reader.is_full() => String::new(),
                    [only] => format!("; did you mean `{only}`?"),
                    pools => did_you_mean(name, pools.iter().map(String::as_str)),
                };
                format!("there is no pool {}{hint}", quote(name))
            })
    })
}
