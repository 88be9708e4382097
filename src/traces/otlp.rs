//! Encodes the OTLP messages for traces, with the fields that are used here: opentelemetry-proto 1.x, `trace/v1`,
//! `common/v1`, `resource/v1` and `collector/trace/v1`.
//!
//! Messages are written field by field with prost's encoders: building, measuring, encoding and dropping a struct for
//! each attribute of each span costs several times as much. The crate with all message types depends on OpenTelemetry's
//! SDK, which would add second versions of crates in the tree; the end-to-end tests use it to decode what is written
//! here.

use std::net::IpAddr;
use std::time::Duration;

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::address_text::AddressText;

/// Field numbers.
pub(super) mod field {
    /// `ExportTraceServiceRequest.resource_spans`.
    pub(in super::super) const RESOURCE_SPANS: u32 = 1;

    /// `ResourceSpans.resource` and `.scope_spans`.
    pub(in super::super) const RESOURCE: u32 = 1;
    pub(in super::super) const SCOPE_SPANS: u32 = 2;

    /// `Resource.attributes`.
    pub(in super::super) const RESOURCE_ATTRIBUTES: u32 = 1;

    /// `ScopeSpans.scope` and `.spans`.
    pub(in super::super) const SCOPE: u32 = 1;
    pub(in super::super) const SPANS: u32 = 2;

    /// `InstrumentationScope.name` and `.version`.
    pub(in super::super) const SCOPE_NAME: u32 = 1;
    pub(in super::super) const SCOPE_VERSION: u32 = 2;

    /// `Span.*`. Ids are big-endian; times are nanoseconds since 1970.
    pub(in super::super) const TRACE_ID: u32 = 1;
    pub(in super::super) const SPAN_ID: u32 = 2;
    pub(in super::super) const PARENT_SPAN_ID: u32 = 4;
    pub(in super::super) const NAME: u32 = 5;
    pub(in super::super) const KIND: u32 = 6;
    pub(in super::super) const START_TIME: u32 = 7;
    pub(in super::super) const END_TIME: u32 = 8;
    pub(in super::super) const ATTRIBUTES: u32 = 9;
    pub(in super::super) const STATUS: u32 = 15;
    pub(in super::super) const FLAGS: u32 = 16;

    /// `Status.message` and `.code`.
    pub(in super::super) const STATUS_MESSAGE: u32 = 2;
    pub(in super::super) const STATUS_CODE: u32 = 3;

    /// `KeyValue.key` and `.value`, and the variants of `AnyValue`.
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const TEXT: u32 = 1;
    pub(super) const FLAG: u32 = 2;
    pub(super) const INTEGER: u32 = 3;
    pub(super) const REAL: u32 = 4;
}

/// `SpanKind`: the side of a call.
pub(super) const SERVER: u64 = 2;
pub(super) const CLIENT: u64 = 3;

/// `StatusCode`: the operation has failed.
pub(super) const ERROR: u64 = 2;

/// An encoded message. Fields are written in the order of the calls.
#[derive(Debug, Default)]
pub(super) struct ProtoMessage(Vec<u8>);

impl ProtoMessage {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Writes a string, bytes or a nested message.
    #[inline]
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.length(field, value.len());
        self.0.extend_from_slice(value);
    }

    pub(super) fn number(&mut self, field: u32, value: u64) {
        encode_key(field, WireType::Varint, &mut self.0);
        encode_varint(value, &mut self.0);
    }

    pub(super) fn fixed32(&mut self, field: u32, value: u32) {
        encode_key(field, WireType::ThirtyTwoBit, &mut self.0);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        encode_key(field, WireType::SixtyFourBit, &mut self.0);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Moves the fields of another message to the end of this one.
    pub(super) fn append(&mut self, other: &mut ProtoMessage) {
        self.0.append(&mut other.0);
    }

    /// Writes the key and the length of a nested message with `length` bytes.
    pub(super) fn length(&mut self, field: u32, length: usize) {
        match (field, length) {
            // The common case, in one step.
            (0..=15, 0..=127) => self.0.extend([delimited(field), length as u8]),
            _ => {
                encode_key(field, WireType::LengthDelimited, &mut self.0);
                encode_varint(length as u64, &mut self.0);
            }
        }
    }

    /// Returns a writer for attributes in this field.
    pub(super) fn attributes(&mut self, field: u32) -> Attributes<'_> {
        Attributes {
            message: self,
            field,
        }
    }
}

/// Writes attributes, by type of value.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    message: &'a mut ProtoMessage,
    field: u32,
}

/// The size of a field key. All field numbers in an attribute are below 16.
const KIND: usize = 1;

impl Attributes<'_> {
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.begin(key, field_length(value.len()));
        self.message.bytes(field::TEXT, value.as_bytes());
    }

    /// What does not fit becomes the largest number that does.
    pub(super) fn integer(&mut self, key: &str, value: impl Into<u64>) {
        let value = value.into().min(i64::MAX as u64);
        self.begin(key, KIND + encoded_len_varint(value));
        self.message.number(field::INTEGER, value);
    }

    pub(super) fn milliseconds(&mut self, key: &str, time: Duration) {
        let value = time.as_secs_f64() * 1e3;
        self.begin(key, KIND + size_of::<f64>());
        self.message.fixed64(field::REAL, value.to_bits());
    }

    pub(super) fn address(&mut self, key: &str, address: IpAddr) {
        let text = AddressText::new(address);
        self.begin(key, field_length(text.as_bytes().len()));
        self.message.bytes(field::TEXT, text.as_bytes());
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.begin(key, KIND + 1);
        self.message.number(field::FLAG, value.into());
    }

    /// Writes everything before an `AnyValue` of `value` bytes.
    fn begin(&mut self, key: &str, value: usize) {
        let message = &mut self.message;
        message.length(self.field, field_length(key.len()) + field_length(value));
        message.bytes(field::KEY, key.as_bytes());
        message.length(field::VALUE, value);
    }
}

/// The key of a length-delimited field; `field` must be below 16.
const fn delimited(field: u32) -> u8 {
    (field << 3) as u8 | WireType::LengthDelimited as u8
}

/// The size of a length-delimited field with a value of `value` bytes.
fn field_length(value: usize) -> usize {
    KIND + encoded_len_varint(value as u64) + value
}

/// The response of a collector.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

/// What the collector rejected.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
}
