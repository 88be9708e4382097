//! A head on its way out, in which the decisions set fields, however the transport keeps it.

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

/// The fields of a message that is about to be passed on.
pub(crate) trait HeaderEditor {
    /// Puts one field in place of all of this name.
    ///
    /// # Errors
    /// If the value cannot stand in a field.
    fn set(&mut self, name: &'static str, value: &[u8]) -> Result<()>;

    /// Adds a field beside those of this name.
    ///
    /// # Errors
    /// If the value cannot stand in a field.
    fn append(&mut self, name: &'static str, value: &[u8]) -> Result<()>;

    /// Removes all fields of this name.
    fn remove(&mut self, name: &HeaderName);
}

impl HeaderEditor for RequestHeader {
    fn set(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        self.insert_header(name, field_value(name, value)?)
    }

    fn append(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        self.append_header(name, field_value(name, value)?)
            .map(drop)
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }
}

impl HeaderEditor for ResponseHeader {
    fn set(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        self.insert_header(name, field_value(name, value)?)
    }

    fn append(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        self.append_header(name, field_value(name, value)?)
            .map(drop)
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }
}

fn field_value(name: &'static str, value: &[u8]) -> Result<HeaderValue> {
    HeaderValue::from_bytes(value)
        .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, name, error))
}
