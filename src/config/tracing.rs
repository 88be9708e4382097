//! `tracing`: distributed traces.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use serde_json::{Map, Value as Json, json};

use super::document::{Content, Node};
use super::field_name::{FieldName, field_name};
use super::fields_file::{FieldsFile, fields_file, secret_field};
use super::hints::quote;
use super::schema::{
    Describe, Kind, Reader, Scalar, boolean, map_of, scalar, section, time, whole,
};
use super::share::{Share, share};
use super::url::{Endpoint, has_user, parse_url};

/// About a gigabyte of waiting requests.
const MAX_QUEUE: usize = 1_000_000;
const MAX_SERVICE_BYTES: usize = 255;
/// Where OTLP over HTTP takes traces, after the collector's own path.
const TRACES_PATH: &str = "/v1/traces";
/// Fields that the exporter sets itself.
const EXPORTER_FIELDS: [HeaderName; 5] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
];

section! {
    /// `tracing`: distributed traces by W3C Trace Context.
    pub struct Tracing: Eq {
        /// The share of traces that are recorded. Traces from `trusted_proxies` are recorded if they say so.
        sample: Share { share(), default "10%" },
        /// Whether a trace is recorded if any client says so.
        trust_clients: bool { boolean(), default "false" },
        /// A collector such as OpenTelemetry's, Jaeger or Tempo, which gets the recorded traces by OTLP over HTTP: a span for
        /// each request and one for each attempt. No request waits for it; what it does not take is dropped.
        otlp: Option<Otlp> { map_of::<Otlp>(), optional "" },
    }
}

section! {
    /// `tracing.otlp`: a collector of traces.
    pub struct Otlp: Eq {
        /// Its URL, http or https, to which /v1/traces is added. A name is resolved again after 10 s.
        endpoint: Endpoint { endpoint(), required "http://127.0.0.1:4318" },
        /// Header fields of each request to it, such as `{ authorization: "Bearer secret" }`.
        headers: Vec<(HeaderName, HeaderValue)> { Fields, default "{}" },
        /// A file with further header fields, for what is secret: a line for each, as in `authorization: Bearer secret`.
        headers_file: Option<FieldsFile> { fields_file(exporter_field), optional "/etc/ballast/otlp.headers" },
        /// The name of this proxy there (service.name).
        service: String { service(), default "ballast" },
        /// For one request to it, from resolving its name to the end of its response.
        timeout: Duration { time(), default "5s" },
        /// How long a request that has ended waits for others, to be sent together.
        interval: Duration { time(), default "1s" },
        /// How many requests may wait to be sent, also while the collector is away.
        queue: usize { whole(1..=MAX_QUEUE), default "2048" },
    }
}

fn endpoint() -> Scalar<Endpoint> {
    scalar("a URL", parse_endpoint, |endpoint: &Endpoint| {
        json!(endpoint.to_string())
    })
}

fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint = parse_url(text, "http://127.0.0.1:4318", |uri| {
        match has_user(uri) || uri.query().is_some() {
            true => Err(format!(
                "{} has a user or a query; credentials for the collector go into `headers`",
                quote(text)
            )),
            false => Ok(()),
        }
    })?;
    let path = endpoint.path.trim_end_matches('/');
    Ok(Endpoint {
        path: match path.ends_with(TRACES_PATH) {
            true => path.to_owned(),
            false => format!("{path}{TRACES_PATH}"),
        },
        ..endpoint
    })
}

fn service() -> Scalar<String> {
    let read = |text: &str| match text.is_empty() || text.len() > MAX_SERVICE_BYTES {
        true => Err(format!(
            "{} is not a name of 1 to {MAX_SERVICE_BYTES} bytes",
            quote(text)
        )),
        false => Ok(text.to_owned()),
    };
    scalar("a name", read, |name| json!(name))
}

/// A map of header fields. Their values may be secret, so neither dumps nor messages show them.
struct Fields;

impl Describe for Fields {
    fn phrase(&self) -> String {
        "a map of header fields".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
    }
}

impl Kind for Fields {
    type Value = Vec<(HeaderName, HeaderValue)>;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Self::Value> {
        if !matches!(node.content, Content::Map(_) | Content::Null) {
            reader.wrong_type(node, "a map");
            return None;
        }
        let fields = node.entries().iter().filter_map(|entry| {
            reader.in_key(&entry.key, |reader| {
                let read = match entry.value.text() {
                    Some(value) => secret_field(&entry.key, value, exporter_field)
                        .map(|(field, value)| (field.name, value)),
                    None => Err("the value of a header field is a single text".to_owned()),
                };
                reader.take(&entry.value, read)
            })
        });
        Some(fields.collect())
    }

    fn dump(&self, value: &Self::Value) -> Json {
        let fields = value.iter().map(|(name, _)| (name.to_string(), Json::Null));
        Json::Object(Map::from_iter(fields))
    }
}

/// Reads the name of a field that the exporter does not set itself.
fn exporter_field(text: &str) -> Result<FieldName, String> {
    let field = field_name(text)?;
    match EXPORTER_FIELDS.contains(&field.name) {
        true => Err(format!("{} is set by the exporter itself", quote(text))),
        false => Ok(field),
    }
}
