//! Names of header fields.

use std::hash::{Hash, Hasher};

use http::header::{self, HeaderName};

use super::hints::quote;

/// Fields that frame a message or manage its connection. Only the proxy itself sets them.
const FRAMING_FIELDS: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
];

/// The name of a header field, which HTTP/1.1 writes as the configuration has it.
#[derive(Debug, Clone)]
pub struct FieldName {
    /// As written.
    pub written: String,
    /// In lower case.
    pub name: HeaderName,
}

impl PartialEq for FieldName {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for FieldName {}

impl Hash for FieldName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// Whether a field frames a message or manages its connection.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    FRAMING_FIELDS.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Reads a name.
pub(super) fn field_name(text: &str) -> Result<FieldName, String> {
    let name = HeaderName::from_bytes(text.as_bytes());
    let name = name.map_err(|_| format!("{} is not the name of a header field", quote(text)))?;
    Ok(FieldName {
        written: text.to_owned(),
        name,
    })
}

/// Reads the name of a field that the configuration may set or remove.
pub(super) fn editable_field(text: &str) -> Result<FieldName, String> {
    let field = field_name(text)?;
    match is_framing(&field.name) {
        true => Err(format!(
            "{} says how a message is sent, and is the proxy's own",
            quote(text)
        )),
        false => Ok(field),
    }
}
