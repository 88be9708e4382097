//! `consul` of a pool: hosts that register with Consul; `discovery.consul`: how Consul is asked.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::document::Node;
use super::hints::quote;
use super::pool_tls::{Authorities, authorities};
use super::scalars::format_time;
use super::schema::{Reader, Scalar, boolean, file, scalar, section, time};
use super::secret::{self, Secret};
use super::url::{Endpoint, has_user, parse_url};

const EXAMPLE_ADDRESS: &str = "http://127.0.0.1:8500";

/// Consul waits no longer, whatever it is asked for.
const MAX_WAIT: Duration = Duration::from_secs(600);

section! {
    /// How Consul is asked for the instances of services.
    pub struct Consul: Eq {
        /// The URL of an agent or a server.
        address: Endpoint { address(), default "http://127.0.0.1:8500" },
        /// A file with the token, which needs `service:read` and `node:read`, in a file that only its owner may read.
        token_file: Option<Secret> { token(), optional "/etc/ballast/consul.token" },
        /// A PEM file of authorities that are trusted for https:// instead of the system's.
        ca: Option<Authorities> { authorities(), optional "/etc/ballast/consul-ca.pem" },
        /// How long Consul holds a question back while nothing changes, at most 10 minutes. Changes are told at once; what is
        /// unchanged is confirmed this often.
        wait: Duration { time(), default "55s" },
        /// The time for an answer, beside that for which Consul may hold it back.
        timeout: Duration { time(), default "5s" },
        /// Whether any server may answer, also while there is no leader. What it says is told to be old then, and removes no
        /// host. `false`: the leader answers.
        stale: bool { boolean(), default "true" },
    }
    check wait_is_possible;
}

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
        /// Whether only instances are hosts whose checks in Consul all pass. `false`: the health checks of this proxy decide;
        /// those in Consul choose the weight among the two that an instance has, and one in maintenance is drained.
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

fn wait_is_possible(consul: &mut Consul, map: &Node, reader: &mut Reader<'_>) {
    if consul.wait > MAX_WAIT {
        let (wait, max) = (format_time(consul.wait), format_time(MAX_WAIT));
        let message = format!("Consul waits at most {max}, not {wait}");
        reader.problem_of_key(map, "wait", message);
    }
}

fn address() -> Scalar<Endpoint> {
    scalar("a URL", parse_address, |endpoint: &Endpoint| {
        let text = endpoint.to_string();
        json!(text.trim_end_matches('/'))
    })
}

fn parse_address(text: &str) -> Result<Endpoint, String> {
    parse_url(text, EXAMPLE_ADDRESS, |uri| {
        if has_user(uri) {
            let text = quote(text);
            return Err(format!(
                "{text} has a user before the host; write `token_file`"
            ));
        }
        match uri.path_and_query().is_none_or(|path| path.as_str() == "/") {
            true => Ok(()),
            false => Err(format!("{} has a path; leave it out", quote(text))),
        }
    })
}

/// A token goes into a header field.
fn token() -> Scalar<Secret> {
    let read = |path: PathBuf, reader: &Reader<'_>| {
        let token = secret::private_password(&path, reader.environment)?;
        match token.bytes.iter().all(u8::is_ascii_graphic) {
            true => Ok(token),
            false => Err(format!(
                "the token in `{}` is not one line of visible ASCII characters",
                path.display()
            )),
        }
    };
    file("the path of a file", read, |token: &Secret| {
        json!(token.file)
    })
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
