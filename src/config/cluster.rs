//! `cluster`: other balancers that serve the same hosts.

use serde_json::json;

use super::etcd::Etcd;
use super::hints::quote;
use super::schema::{Scalar, map_of, scalar, section};

section! {
    /// Several balancers that serve the same hosts and know of each other through etcd. What operators change in one of
    /// them (drains, weights, hosts, maintenance) holds in all, cookies and session tickets of one are known to all, and
    /// ACME orders are made by one at a time. `limits` and rates are divided by the number of live members, and checks of
    /// hosts are that many times less frequent. Without etcd each member goes on with what it knew last, which
    /// `discovery.state_directory` keeps for a start, and changes are refused.
    pub struct Cluster: Eq {
        /// How etcd is reached.
        etcd: Etcd { map_of::<Etcd>(), required "{ endpoints: [\"http://127.0.0.1:2379\"] }" },
        /// The name that all members have in common.
        name: String { part_of_key(), required "prod" },
        /// The name of this member; without it that of the machine. No two members have the same.
        member: Option<String> { part_of_key(), optional "edge-1" },
        /// What the keys in etcd begin with; then follows the name.
        prefix: String { beginning_of_keys(), default "/ballast" },
    }
}

/// A part of a key.
fn part_of_key() -> Scalar<String> {
    let read = |text: &str| {
        let is_proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        match (1..=64).contains(&text.len()) && text.chars().all(is_proper) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "{} is not a name of 1 to 64 letters, digits, `_`, `-` and `.`",
                quote(text)
            )),
        }
    };
    scalar("a name", read, |name| json!(name))
}

fn beginning_of_keys() -> Scalar<String> {
    let read =
        |text: &str| match text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic()) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "{} is not the beginning of keys, such as `/ballast`",
                quote(text)
            )),
        };
    scalar("the beginning of keys", read, |prefix| json!(prefix))
}
