//! Changes to the header fields of a forwarded head.

use std::ops::Range;

use http::HeaderName;
use pingora::{Error, ErrorType, Result};

use crate::config::FieldName;
use crate::message::FieldsView;
use crate::message::encode::write_field;
use crate::proxy::compression::ResponseHead;
use crate::proxy::forwarding::header_editor::HeaderEditor;

/// Fields to add to a head, and the names of received fields to leave out.
#[derive(Debug, Default)]
pub(super) struct HeaderEdits {
    /// The values of all added fields, concatenated.
    bytes: Vec<u8>,
    fields: Vec<(&'static str, Range<usize>)>,
    /// Names whose received fields are replaced by the added ones.
    replaced: Vec<&'static str>,
    removed: Vec<HeaderName>,
    /// Added fields whose names are from the configuration, with their values in `bytes`.
    configured: Vec<(FieldName, Range<usize>)>,
}

impl HeaderEdits {
    /// Removes all edits and keeps the allocations.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.replaced.clear();
        self.removed.clear();
        self.configured.clear();
    }

    /// Whether received fields of this name are not forwarded.
    pub(super) fn replaces(&self, name: &[u8]) -> bool {
        let is =
            |known: &str| known.len() == name.len() && name.eq_ignore_ascii_case(known.as_bytes());
        self.replaced.iter().any(|known| is(known))
            || self.removed.iter().any(|known| is(known.as_str()))
    }

    /// The values of the added fields with this name.
    pub(super) fn added<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let named = self.fields.iter().filter_map(|(known, value)| {
            let is_named = known.eq_ignore_ascii_case(name.as_str());
            is_named.then(|| value.clone())
        });
        let configured = self.configured.iter().filter_map(move |(known, value)| {
            let is_named = known.name == name;
            is_named.then(|| value.clone())
        });
        named.chain(configured).map(|value| &self.bytes[value])
    }

    /// Keeps the value of the added field `name`.
    fn push_value(&mut self, name: &'static str, value: &[u8]) -> Result<Range<usize>> {
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, name);
        }
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(value);
        Ok(begin..self.bytes.len())
    }

    /// Appends the added fields to a head.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.fields {
            write_field(out, name.as_bytes(), &self.bytes[value.clone()]);
        }
        for (name, value) in &self.configured {
            write_field(out, name.written.as_bytes(), &self.bytes[value.clone()]);
        }
    }
}

impl HeaderEditor for HeaderEdits {
    fn set(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        match self.replaced.contains(&name) {
            true => self.fields.retain(|(known, _)| *known != name),
            false => self.replaced.push(name),
        }
        self.append(name, value)
    }

    fn append(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        let value = self.push_value(name, value)?;
        self.fields.push((name, value));
        Ok(())
    }

    fn set_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()> {
        self.remove(&name.name);
        self.append_configured(name, value)
    }

    fn append_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()> {
        let value = self.push_value("a configured field", value)?;
        self.configured.push((name.clone(), value));
        Ok(())
    }

    fn remove(&mut self, name: &HeaderName) {
        let is = |known: &str| known.eq_ignore_ascii_case(name.as_str());
        self.fields.retain(|(known, _)| !is(known));
        self.configured.retain(|(known, _)| known.name != name);
        self.removed.push(name.clone());
    }
}

/// A received head with its edits.
#[derive(Debug)]
pub(super) struct EditedHead<'a> {
    pub(super) received: FieldsView<'a>,
    pub(super) edits: &'a mut HeaderEdits,
}

impl ResponseHead for EditedHead<'_> {
    type Editor = HeaderEdits;

    fn values<'a>(&'a self, name: &'a HeaderName) -> Vec<&'a [u8]> {
        let is_forwarded = !self.edits.replaces(name.as_str().as_bytes());
        let received = is_forwarded.then(|| self.received.get_all(name));
        let received = received.into_iter().flatten();
        Vec::from_iter(received.chain(self.edits.added(name)))
    }

    fn editor(&mut self) -> &mut HeaderEdits {
        self.edits
    }
}
