//! Changes to the header fields of a forwarded head.

use std::ops::Range;

use http::HeaderName;
use pingora::{Error, ErrorType, Result};

use crate::config::FieldName;
use crate::message::FieldsView;
use crate::message::encode::{LINE_END, write_field};
use crate::proxy::compression::ResponseHead;
use crate::proxy::forwarding::header_editor::HeaderEditor;

/// Fields to add to a head, and the names of received fields to leave out.
#[derive(Debug, Default)]
pub(super) struct HeaderEdits {
    /// The added fields, as lines of a head.
    lines: Vec<u8>,
    /// Names and values of the added fields, in `lines`.
    added: Vec<(Range<usize>, Range<usize>)>,
    /// Whether `lines` also has fields that were replaced by later ones.
    has_outdated_lines: bool,
    /// Names whose received fields are replaced by the added ones.
    replaced: Vec<&'static str>,
    /// Names from the configuration whose received fields are left out, concatenated.
    names: Vec<u8>,
    /// Where each of them is in `names`.
    removed: Vec<Range<usize>>,
}

impl HeaderEdits {
    /// Removes all edits and keeps the allocations.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.added.clear();
        self.has_outdated_lines = false;
        self.replaced.clear();
        self.names.clear();
        self.removed.clear();
    }

    /// Whether received fields of this name are not forwarded.
    pub(super) fn replaces(&self, name: &[u8]) -> bool {
        let is = |known: &[u8]| known.len() == name.len() && name.eq_ignore_ascii_case(known);
        self.replaced.iter().any(|known| is(known.as_bytes()))
            || (self.removed.iter()).any(|known| is(&self.names[known.clone()]))
    }

    /// The values of the added fields with this name.
    pub(super) fn added<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.added.iter().filter_map(|(known, value)| {
            let known = &self.lines[known.clone()];
            let is_named = known.eq_ignore_ascii_case(name.as_str().as_bytes());
            is_named.then(|| &self.lines[value.clone()])
        })
    }

    /// Appends the added fields to a head.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if !self.has_outdated_lines {
            return out.extend_from_slice(&self.lines);
        }
        for (name, value) in &self.added {
            out.extend_from_slice(&self.lines[name.start..value.end + LINE_END.len()]);
        }
    }

    fn add(&mut self, name: &str, value: &[u8]) -> Result<()> {
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, name.to_owned());
        }
        let begin = self.lines.len();
        write_field(&mut self.lines, name.as_bytes(), value);
        let end = self.lines.len() - LINE_END.len();
        self.added
            .push((begin..begin + name.len(), end - value.len()..end));
        Ok(())
    }

    /// Takes back the added fields of this name.
    fn drop_added(&mut self, name: &str) {
        let (lines, count) = (&self.lines, self.added.len());
        let is = |known: &[u8]| known.eq_ignore_ascii_case(name.as_bytes());
        self.added.retain(|(known, _)| !is(&lines[known.clone()]));
        self.has_outdated_lines |= self.added.len() < count;
    }
}

impl HeaderEditor for HeaderEdits {
    fn set(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        match self.replaced.contains(&name) {
            true => self.drop_added(name),
            false => self.replaced.push(name),
        }
        self.add(name, value)
    }

    fn append(&mut self, name: &'static str, value: &[u8]) -> Result<()> {
        self.add(name, value)
    }

    fn set_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()> {
        self.remove(&name.name);
        self.add(&name.written, value)
    }

    fn append_configured(&mut self, name: &FieldName, value: &[u8]) -> Result<()> {
        self.add(&name.written, value)
    }

    fn remove(&mut self, name: &HeaderName) {
        self.drop_added(name.as_str());
        let begin = self.names.len();
        self.names.extend_from_slice(name.as_str().as_bytes());
        self.removed.push(begin..self.names.len());
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
