//! A collector of traces, with as much of OTLP over HTTP as the tests need.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::backend::Backend;
use super::reply::{Next, Reply};
use super::wait::{SOON, wait_until};
use super::wire::{Framing, Head};

/// A span that the collector received.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedSpan {
    /// The head of the request that brought it.
    pub(crate) head: Head,
    /// The attributes that all spans of the request share.
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) span: Span,
}

impl ReceivedSpan {
    /// An attribute as text, empty if there is none.
    pub(crate) fn get(&self, key: &str) -> String {
        texts(&self.span.attributes).remove(key).unwrap_or_default()
    }
}

/// Receives spans and keeps them.
pub(crate) struct Collector {
    pub(crate) backend: Backend,
    received: Arc<Mutex<Vec<ReceivedSpan>>>,
}

impl Collector {
    pub(crate) fn start_new() -> Self {
        let collector = Collector {
            backend: Backend::start_new("collector"),
            received: Arc::default(),
        };
        collector.accept();
        collector
    }

    /// Receives spans from now on.
    pub(crate) fn accept(&self) {
        let received = Arc::clone(&self.received);
        self.backend.set(Reply::script(move |head, wire| {
            let body = wire.read_body(head.framing().unwrap_or(Framing::Length(0)))?;
            let request = ExportTraceServiceRequest::decode(body.as_slice())?;
            for of_resource in request.resource_spans {
                let resource = of_resource.resource.unwrap_or_default();
                let spans = of_resource.scope_spans.into_iter();
                let new_spans = spans
                    .flat_map(|scope| scope.spans)
                    .map(|span| ReceivedSpan {
                        head: head.clone(),
                        resource: texts(&resource.attributes),
                        span,
                    });
                received
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(new_spans);
            }
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            Ok(Next::Keep)
        }));
    }

    /// The lines of a configuration that send every span to this collector at once.
    pub(crate) fn section(&self, more: &str) -> String {
        section(self.backend.address(), more)
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<ReceivedSpan> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.clone()
    }

    /// The spans of a trace once there are this many, the earliest first.
    #[track_caller]
    pub(crate) fn spans_of(&self, trace: &str, count: usize) -> Vec<ReceivedSpan> {
        let of_trace = || {
            let mut received = self.spans();
            received.retain(|received| hex(&received.span.trace_id) == trace);
            received
        };
        wait_until(SOON, "the spans of a trace", || of_trace().len() >= count);
        let mut received = of_trace();
        assert_eq!(received.len(), count, "{received:#?}");
        received.sort_by_key(|received| received.span.start_time_unix_nano);
        received
    }
}

/// The lines of a configuration that send every span to a collector at an address.
pub(crate) fn section(collector: SocketAddr, more: &str) -> String {
    format!(
        "tracing: {{ sample: 100%, otlp: {{ endpoint: \"http://{collector}\", interval: 10ms, {more} }} }}"
    )
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |item: &KeyValue| match item.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = attributes.iter();
    pairs.map(|item| (item.key.clone(), text(item))).collect()
}
