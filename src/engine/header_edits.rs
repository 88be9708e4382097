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
    /// The values of all added fields, and the names that are from the configuration, concatenated.
    bytes: Vec<u8>,
    fields: Vec<(&'static str, Range<usize>)>,
    /// Names whose received fields are replaced by the added ones.
    replaced: Vec<&'static str>,
    /// Added fields whose names are from the configuration: names and values in `bytes`.
    configured: Vec<(Range<usize>, Range<usize>)>,
    /// Names from the configuration, in `bytes`, whose received fields are left out.
    removed: Vec<Range<usize>>,
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
            || (self.removed.iter())
                .any(|known| self.bytes[known.clone()].eq_ignore_ascii_case(name))
    }

    /// Keeps a name or a value.
    fn push(&mut self, bytes: &[u8]) -> Range<usize> {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        begin..self.bytes.len()
    }

    /// The values of the added fields with this name.
    pub(super) fn added<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let named = self.fields.iter().filter_map(|(known, value)| {
            let is_named = known.eq_ignore_ascii_case(name.as_str());
            is_named.then(|| value.clone())
        });
        let configured = self.configured.iter().filter_map(move |(known, value)| {
            let known = &self.bytes[known.clone()];
            let is_named = known.eq_ignore_ascii_case(name.as_str().as_bytes());
            is_named.then(|| value.clone())
        });
        named.chain(configured).map(|value| &self.bytes[value])
    }

    /// Keeps the value of the added field `name`.
    fn push_value(&mut self, name: &'static str, value: &[u8]) -> Result<Range<usize>> {
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, name);
        }
        Ok(self.push(value))
    }

    /// Appends the added fields to a head.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.fields {
            write_field(out, name.as_bytes(), &self.bytes[value.clone()]);
        }
        for (name, value) in &self.configured {
            write_field(out, &self.bytes[name.clone()], &self.bytes[value.clone()]);
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
        let name = self.push(name.written.as_bytes());
        self.configured.push((name, value));
        Ok(())
    }

    fn remove(&mut self, name: &HeaderName) {
        let name = name.as_str();
        let bytes = &self.bytes;
        let is = |known: &[u8]| known.eq_ignore_ascii_case(name.as_bytes());
        self.fields.retain(|(known, _)| !is(known.as_bytes()));
        self.configured
            .retain(|(known, _)| !is(&bytes[known.clone()]));
        let name = self.push(name.as_bytes());
        self.removed.push(name);
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
