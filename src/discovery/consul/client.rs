//! Asks Consul for the instances of a service.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pingora::http::RequestHeader;
use pingora::protocols::tls::CaType;
use tokio::task::spawn_blocking;

use super::instance::Instance;
use crate::config::{Consul, ConsulService};
use crate::pool::ca_type;
use crate::proxy::subrequest::{
    BodyLimit, SERVICE_RESPONSE_HEAD, SubResponse, Subrequest, SubrequestClient, SubrequestLimits,
    SubrequestTarget,
};

/// The largest answer that is read: an instance with its checks has some kilobytes.
const MAX_RESPONSE: usize = 16 << 20;

/// Answers that are this large are read beside the tasks of the runtime.
const LARGE_RESPONSE: usize = 64 << 10;

/// If the server that answered has had no contact with the leader for longer, its answer is told to be old. A leader is
/// elected in a few seconds.
const MAX_LAST_CONTACT: Duration = Duration::from_secs(10);

/// Characters of an error that are shown.
const MAX_ERROR: usize = 200;

const AGENT: &str = concat!("ballast/", env!("CARGO_PKG_VERSION"));

/// What stands in a path or a query as it is.
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
const FILTERED: HeaderName = HeaderName::from_static("x-consul-results-filtered-by-acls");

/// Sends queries to one agent or server.
#[derive(Debug)]
pub(in crate::discovery) struct ConsulClient {
    config: Consul,
    ca: Option<Arc<CaType>>,
    client: SubrequestClient,
}

/// The instances of a service at an index.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) instances: Vec<Instance>,
    /// 0: Consul gave none.
    pub(super) index: u64,
    /// Why there may be other instances.
    pub(super) doubt: Option<String>,
}

impl ConsulClient {
    pub(in crate::discovery) fn new(config: &Consul) -> Self {
        ConsulClient {
            ca: config.ca.as_ref().map(ca_type),
            config: config.clone(),
            client: SubrequestClient::default(),
        }
    }

    /// The instances of a service: with an `index` once they differ from those at that index, or after the configured time.
    ///
    /// # Errors
    /// Consul does not answer in time, refuses, or its answer is not one.
    pub(super) async fn health(
        &self,
        service: &ConsulService,
        index: Option<u64>,
    ) -> Result<Health, String> {
        let request = self.request(service, index);
        let request = request.map_err(|error| error.to_string())?;
        let target = match &self.ca {
            Some(ca) => SubrequestTarget::UrlTrusting(&self.config.address, ca),
            None => SubrequestTarget::Url(&self.config.address),
        };
        let limits = SubrequestLimits {
            total: self.limit(index),
            body: BodyLimit::Keep(MAX_RESPONSE),
            head: &SERVICE_RESPONSE_HEAD,
        };
        let response = self.client.send(target, &request, limits).await;
        let response = response.map_err(|error| error.to_string())?;
        let fields = &response.head.headers;
        let (index, doubt) = (index_of(fields), doubt(fields));
        Ok(Health {
            instances: instances(response).await?,
            index,
            doubt,
        })
    }

    /// The time for an answer. Consul adds up to a sixteenth to the time that it waits.
    fn limit(&self, index: Option<u64>) -> Duration {
        let Consul { wait, timeout, .. } = self.config;
        match index {
            Some(_) => wait + wait / 16 + timeout,
            None => timeout,
        }
    }

    fn request(&self, service: &ConsulService, index: Option<u64>) -> pingora::Result<Subrequest> {
        let path = path(service, &self.config, index);
        let mut head = RequestHeader::build(Method::GET, path.as_bytes(), None)?;
        head.insert_header(HOST, self.config.address.authority())?;
        head.insert_header(USER_AGENT, AGENT)?;
        head.insert_header(ACCEPT, "application/json")?;
        if let Some(token) = &self.config.token_file {
            head.insert_header(TOKEN, token.bytes.as_slice())?;
        }
        if self.ca.is_some() {
            // Kept connections are not told apart by their authorities.
            head.insert_header(CONNECTION, "close")?;
        }
        Subrequest::new(head, Bytes::new())
    }
}

fn path(service: &ConsulService, config: &Consul, index: Option<u64>) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, &ENCODED).to_string();
    let mut path = format!("/v1/health/service/{}", encoded(&service.service));
    let mut separator = '?';
    let mut add = |parameter: String| {
        path.push(separator);
        path.push_str(&parameter);
        separator = '&';
    };
    if service.passing {
        add("passing".to_owned());
    }
    if let Some(tag) = &service.tag {
        add(format!("tag={}", encoded(tag)));
    }
    if let Some(datacenter) = &service.datacenter {
        add(format!("dc={}", encoded(datacenter)));
    }
    if config.stale {
        add("stale".to_owned());
    }
    if let Some(index) = index {
        let milliseconds = config.wait.as_millis();
        add(format!("index={index}&wait={milliseconds}ms"));
    }
    path
}

async fn instances(response: SubResponse) -> Result<Vec<Instance>, String> {
    let status = response.head.status.as_u16();
    if status != 200 {
        let text = String::from_utf8_lossy(&response.body);
        let text = text.lines().next().unwrap_or_default().chars();
        let text = String::from_iter(text.filter(|c| !c.is_control()).take(MAX_ERROR));
        let hint = match status {
            401 | 403 => {
                "; the token in `discovery.consul.token_file` needs service:read and node:read"
            }
            _ => "",
        };
        return Err(format!("Consul answers {status}: {text}{hint}"));
    }
    let read = |body: Bytes| {
        let read = serde_json::from_slice(&body);
        read.map_err(|error| format!("its answer is not a list of instances: {error}"))
    };
    match response.body.len() > LARGE_RESPONSE {
        true => {
            let read = spawn_blocking(move || read(response.body)).await;
            read.map_err(|error| error.to_string())?
        }
        false => read(response.body),
    }
}

fn index_of(fields: &HeaderMap) -> u64 {
    text(fields, &INDEX)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Why an answer may be old, or lack instances.
fn doubt(fields: &HeaderMap) -> Option<String> {
    if text(fields, &FILTERED) == Some("true") {
        return Some(
            "Consul leaves out what the token may not read; it needs service:read and node:read"
                .to_owned(),
        );
    }
    if text(fields, &KNOWN_LEADER) == Some("false") {
        return Some("Consul has no leader, so its answer may be old".to_owned());
    }
    let silent = text(fields, &LAST_CONTACT)?.parse().ok();
    let silent = Duration::from_millis(silent?);
    (silent > MAX_LAST_CONTACT).then(|| {
        let seconds = silent.as_secs();
        format!("Consul's server has not heard from its leader for {seconds} s, so its answer may be old")
    })
}

fn text<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    fields.get(name).map(HeaderValue::to_str)?.ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn config(yaml: &str) -> Consul {
        let yaml = format!(
            "listeners: [\"127.0.0.1:80\"]\npools: {{ web: {{ consul: web }} }}\ndiscovery: {{ consul: {yaml} }}"
        );
        let config = Config::parse(&yaml, Path::new("x.yaml")).expect("it is valid");
        config.discovery.consul
    }

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        let fields = pairs.map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        fields.collect()
    }

    #[test]
    fn what_is_asked_stands_in_the_path() {
        let service = ConsulService {
            service: "web/&?".to_owned(),
            tag: Some("v=1".to_owned()),
            datacenter: Some("dc1".to_owned()),
            passing: true,
        };
        assert_eq!(
            path(&service, &config("{}"), Some(7)),
            "/v1/health/service/web%2F%26%3F?passing&tag=v%3D1&dc=dc1&stale&index=7&wait=55000ms"
        );
        let all = ConsulService {
            service: "web".to_owned(),
            tag: None,
            datacenter: None,
            passing: false,
        };
        assert_eq!(
            path(&all, &config("{ stale: false }"), None),
            "/v1/health/service/web"
        );
    }

    #[test]
    fn an_answer_that_may_be_old_or_incomplete_is_doubted() {
        let good = fields(&[
            ("x-consul-knownleader", "true"),
            ("x-consul-lastcontact", "9000"),
        ]);
        assert_eq!(doubt(&good), None);
        assert_eq!(doubt(&HeaderMap::new()), None);
        for (field, expected) in [
            (("x-consul-knownleader", "false"), "no leader"),
            (("x-consul-lastcontact", "12000"), "for 12 s"),
            (
                ("x-consul-results-filtered-by-acls", "true"),
                "the token may not read",
            ),
        ] {
            let doubt = doubt(&fields(&[field])).expect("it is doubted");
            assert!(doubt.contains(expected), "{doubt}");
        }
    }

    #[test]
    fn an_index_is_a_number_above_0() {
        assert_eq!(index_of(&fields(&[("x-consul-index", "42")])), 42);
        for wrong in ["", "x", "-1", "99999999999999999999999"] {
            assert_eq!(index_of(&fields(&[("x-consul-index", wrong)])), 0);
        }
        assert_eq!(index_of(&HeaderMap::new()), 0);
    }

    #[test]
    fn a_query_that_may_be_held_back_has_more_time() {
        let client = ConsulClient::new(&config("{ wait: 16s, timeout: 2s }"));
        assert_eq!(client.limit(None), Duration::from_secs(2));
        assert_eq!(client.limit(Some(1)), Duration::from_secs(19));
    }
}
