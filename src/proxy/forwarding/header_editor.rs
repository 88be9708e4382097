//! Editing the header fields of a message that is about to be forwarded, independent of how the driver stores them.

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

use crate::config::FieldName;
use crate::proxy::local_message::LocalMessage;

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

    /// Like [`set`](Self::set), with a name from the configuration.
    ///
    /// # Errors
    /// If the value contains bytes that are not allowed in a field.
    fn set_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()>;

    /// Like [`append`](Self::append), with a name from the configuration.
    ///
    /// # Errors
    /// If the value contains bytes that are not allowed in a field.
    fn append_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()>;

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

                fn set_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()> {
                    let value = field_value("a configured field", value)?;
                    self.insert_header(name.written.clone(), value)
                }

                fn append_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()> {
                    let value = field_value("a configured field", value)?;
                    self.append_header(name.written.clone(), value).map(drop)
                }

                fn remove(&mut self, name: &HeaderName) {
                    self.remove_header(name);
                }
            }
        )*
    };
}

edit_with_own_methods!(RequestHeader, ResponseHeader);

impl HeaderEditor for LocalMessage {
    fn set(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        let (name, value) = (field_name(name)?, field_value(name, value)?);
        self.fields.insert(name, value);
        Ok(())
    }

    fn append(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        let (name, value) = (field_name(name)?, field_value(name, value)?);
        self.fields.append(name, value);
        Ok(())
    }

    fn set_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()> {
        let value = field_value("a configured field", value)?;
        self.fields.insert(&name.name, value);
        Ok(())
    }

    fn append_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()> {
        let value = field_value("a configured field", value)?;
        self.fields.append(&name.name, value);
        Ok(())
    }

    fn remove(&mut self, name: &HeaderName) {
        self.fields.remove(name);
    }
}

fn field_name(name: &'static str) -> Result<HeaderName> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, name, error))
}

fn field_value(name: &'static str, value: &[u8]) -> Result<HeaderValue> {
    HeaderValue::from_bytes(value)
        .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, name, error))
}
