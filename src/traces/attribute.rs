//! Attributes of spans, by the kind of their values.

use std::time::Duration;

use super::otlp::{AnyValue, KeyValue, Value};

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    of(key, Value::Text(value.into()))
}

/// What does not fit becomes the largest number that does.
pub(super) fn integer(key: &str, value: impl Into<u64>) -> KeyValue {
    let value = i64::try_from(value.into()).unwrap_or(i64::MAX);
    of(key, Value::Integer(value))
}

pub(super) fn milliseconds(key: &str, time: Duration) -> KeyValue {
    of(key, Value::Real(time.as_secs_f64() * 1e3))
}

pub(super) fn flag(key: &str, value: bool) -> KeyValue {
    of(key, Value::Flag(value))
}

fn of(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}
