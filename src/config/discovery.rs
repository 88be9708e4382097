//! `discovery`: how sources of hosts are asked, and what is kept of their answers.

use std::path::PathBuf;

use serde_json::json;

use super::consul::Consul;
use super::dns::Dns;
use super::etcd::Etcd;
use super::schema::{Scalar, boolean, file, map_of, or_word, section};

section! {
    /// Sources of hosts other than this file: DNS, files, etcd and Consul. An answer that fails, is empty or incomplete never
    /// removes a host; a complete one removes those that it leaves out, once at least half of those that it names are usable.
    pub struct Discovery: Eq {
        /// How names are looked up.
        dns: Dns { map_of::<Dns>(), default "{}" },
        /// The server that has the keys of pools with `etcd`.
        etcd: Option<Etcd> { map_of::<Etcd>(), optional "{ endpoints: [\"http://127.0.0.1:2379\"] }" },
        /// How Consul is asked for the services of pools with `consul`.
        consul: Consul { map_of::<Consul>(), default "{}" },
        /// The directory that keeps the last good answer of each source, and what a member of a cluster knows, for a start
        /// while the source or etcd cannot be asked; made if it is missing. `none`: nothing is kept.
        state_directory: Option<PathBuf> { or_word("none", state_directory()), default "/var/lib/ballast/hosts" },
        /// Whether a process refuses to start while a source has never told any host. `false`: its pool has no hosts until it
        /// does, which the log, `ballast status` and the metrics say.
        strict: bool { boolean(), default "false" },
    }
}

fn state_directory() -> Scalar<PathBuf> {
    file(
        "the path of a directory",
        |path, _| Ok(path),
        |path| json!(path),
    )
}
