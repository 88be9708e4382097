//! `consul` of a pool: hosts that register with Consul.

use std::fmt;

use serde_json::json;

use super::hints::quote;
use super::schema::{Scalar, boolean, scalar, section};

section! {
    /// The instances of a service in Consul, with the addresses, ports and weights that they have registered; the server is
    /// that of `discovery.consul`.
    pub struct ConsulService: Eq, Hash, PartialOrd, Ord {
        /// The name of the service.
        service: String { word("the name of a service"), required "web" },
        /// Only instances with this tag.
        tag: Option<String> { word("a tag"), optional "production" },
        /// The datacenter; without it that of the agent.
        datacenter: Option<String> { word("a datacenter"), optional "dc1" },
        /// Whether only instances are hosts whose checks in Consul pass. `false`: the health checks of this proxy alone decide.
        passing: bool { boolean(), default "true" },
    }
}

impl fmt::Display for ConsulService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.service)?;
        if let Some(tag) = &self.tag {
            write!(f, " with tag {tag}")?;
        }
        match &self.datacenter {
            Some(datacenter) => write!(f, " in {datacenter}"),
            None => Ok(()),
        }
    }
}

/// What may stand in the path or the query of a request to Consul, and in a line of a log.
fn word(what: &'static str) -> Scalar<String> {
    let read = move |text: &str| {
        let is_proper = |c: char| c.is_ascii_graphic();
        match !text.is_empty() && text.len() <= 128 && text.chars().all(is_proper) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "{} is not {what}: 1 to 128 visible ASCII characters",
                quote(text)
            )),
        }
    };
    scalar(what, read, |word| json!(word))
}
