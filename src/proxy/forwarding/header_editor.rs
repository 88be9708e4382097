//! Editing the header fields of a message that is about to be forwarded, independent of how the driver stores them.

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

/// The header of a message about to be forwarded.
pub(crate) trait HeaderEditor {
    /// Sets a field, replacing all fields with this name.
    ///
    /// # Errors
    /// If the value contains bytes that are not allowed in a field.
    fn set(&mut self, name: &'static str, value: &[u8]) -> Result<()>;

    /// Adds a field and keeps others with the same name.
    ///
    /// # Errors
    /// If the value contains bytes that are not allowed in a field.
    fn append(&mut self, name: &'static str, value: &[u8]) -> Result<()>;

    /// Removes all fields with this name.
    fn remove(&mut self, name: &HeaderName);
}

/// Implements [`HeaderEditor`] for Pingora's headers, whose methods have the same names but no common trait.
macro_rules! edit_with_own_methods {
    ($($header:ty),*) => {
        $(
            impl HeaderEditor for $header {
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
        )*
    };
}

edit_with_own_methods!(RequestHeader, ResponseHeader);

fn field_value(name: &'static str, value: &[u8]) -> Result<HeaderValue> {
    HeaderValue::from_bytes(value)
        .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, name, error))
}
