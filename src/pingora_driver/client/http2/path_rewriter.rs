//! Carries request paths that the `http` crate rejects past the `h2` crate, and makes it reject trailers that it would
//! accept.
//!
//! `h2` resets a stream whose path contains `<`, `>` or a backtick, and drops what follows a `#`. This module replaces
//! such a path in the byte stream before `h2` reads it: by a path of the same length, which leaves the HPACK table
//! unchanged, and by an extra field with the escaped path. The field has a random name per process, so clients cannot
//! forge it. When the stream is accepted, [`restore_path`] moves the path from that field back into the request.
//!
//! `h2` ignores pseudo-header fields in trailers, which make a request malformed, RFC 9113 8.1. This module takes
//! END_STREAM from such trailers: `h2` then resets the stream with PROTOCOL_ERROR, and the request never ends.
//!
//! All other bytes pass unchanged, and at once if a frame arrives as a whole. Bytes that violate HTTP/2 or exceed a
//! limit are left for `h2` to reject, and from there on the rewriter passes everything through.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::Uri;
use http::header::HeaderName;
use http::uri::PathAndQuery;
use pingora::http::RequestHeader;

use super::frame::{
    CONTINUATION, END_HEADERS, END_STREAM, FRAME_HEADER_LENGTH, FrameHeader, HEADERS, MAX_FRAME,
    PADDED, PREFACE, PRIORITY,
};
use super::hpack::{BlockScan, HpackTable, write_field, write_string};
use super::odd_path::{escape_path, is_odd};
use super::open_streams::OpenStreams;
use crate::message::Malformed;

/// Position of the flags in a frame header.
const FLAGS: usize = 4;

/// Length of the priority data before the block, in bytes.
const PRIORITY_LENGTH: usize = 5;

/// The name of the field that carries the escaped path.
static PATH_FIELD: LazyLock<HeaderName> = LazyLock::new(|| {
    let name = format!("ballast-path-{:032x}", rand::random::<u128>());
    HeaderName::from_bytes(name.as_bytes()).expect("letters, digits and hyphens")
});

/// Moves the path from its field back into the request. `Err`: the path is not valid.
pub(crate) fn restore_path(request: &mut RequestHeader) -> Result<(), Malformed> {
    let Some(path) = request.remove_header(&*PATH_FIELD) else {
        return Ok(());
    };
    if path.is_empty() {
        return Err(Malformed);
    }
    // The authority is a separate part of the URI.
    let mut parts = request.uri.clone().into_parts();
    let path = PathAndQuery::try_from(path.as_bytes()).map_err(|_| Malformed)?;
    parts.path_and_query = Some(path);
    request.set_uri(Uri::from_parts(parts).map_err(|_| Malformed)?);
    Ok(())
}

/// The filter between a client's socket and `h2`.
#[derive(Debug)]
pub(crate) struct PathRewriter {
    /// Bytes of the current frame that still pass unchanged.
    passing: usize,
    /// An incomplete frame header, or the frames of an incomplete head.
    held: Vec<u8>,
    /// Bytes that must be returned before anything else is read.
    out: Vec<u8>,
    table: HpackTable,
    streams: OpenStreams,
    /// Maximum number of bytes held back for one head.
    limit: usize,
    /// Whether the rewriter has stopped looking at the bytes.
    is_passthrough: bool,
}

/// What a byte sequence begins with.
enum NextUnit {
    /// More bytes are needed to tell.
    Torn,
    /// A frame that passes unchanged.
    Frame(FrameHeader),
    /// A complete head, of this length.
    Head(usize),
}

/// What to do with a byte sequence.
enum RewriteStep {
    /// Pass this number of bytes unchanged.
    Pass(usize),
    /// Hold back all of them.
    Hold,
    /// Replace this number of bytes by these.
    Replace(usize, Vec<u8>),
}

impl PathRewriter {
    /// The rewriter of a new connection. `limit` is the maximum size of a field list.
    pub(crate) fn new(limit: usize) -> Self {
        PathRewriter {
            passing: PREFACE,
            held: Vec::new(),
            out: Vec::new(),
            table: HpackTable::new(),
            streams: OpenStreams::default(),
            limit: limit.saturating_add(MAX_FRAME),
            is_passthrough: false,
        }
    }

    /// The bytes that must be returned before anything else is read.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Processes the bytes just read and returns how many of them pass unchanged. The rest is held back, or appended to
    /// the output.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            let is_torn = matches!(unit(&self.held), Ok(NextUnit::Torn));
            if !is_torn || self.held.len() > self.limit {
                let held = std::mem::take(&mut self.held);
                self.copy(&held);
            }
            return 0;
        }
        let mut at = 0;
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                RewriteStep::Pass(count) => at += count,
                RewriteStep::Hold => {
                    self.held.extend_from_slice(&bytes[at..]);
                    break;
                }
                RewriteStep::Replace(count, new) => {
                    self.out.extend_from_slice(&new);
                    self.copy(&bytes[at + count..]);
                    break;
                }
            }
        }
        at
    }

    /// The client has closed its sending side.
    pub(crate) fn end(&mut self) {
        self.is_passthrough = true;
        self.out.append(&mut self.held);
    }

    /// Processes bytes that cannot pass in place, and copies them to the output.
    fn copy(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = match self.step(bytes) {
                RewriteStep::Pass(count) => {
                    self.out.extend_from_slice(&bytes[..count]);
                    count
                }
                RewriteStep::Hold => {
                    self.held.extend_from_slice(bytes);
                    return;
                }
                RewriteStep::Replace(count, new) => {
                    self.out.extend_from_slice(&new);
                    count
                }
            };
            bytes = &bytes[count..];
        }
    }

    fn step(&mut self, bytes: &[u8]) -> RewriteStep {
        if self.is_passthrough {
            return RewriteStep::Pass(bytes.len());
        }
        if self.passing > 0 {
            let count = self.passing.min(bytes.len());
            self.passing -= count;
            return RewriteStep::Pass(count);
        }
        match unit(bytes) {
            Ok(NextUnit::Torn) if bytes.len() <= self.limit => return RewriteStep::Hold,
            Ok(NextUnit::Frame(frame)) => {
                self.streams.note(frame);
                let length = FRAME_HEADER_LENGTH + frame.length;
                let count = length.min(bytes.len());
                self.passing = length - count;
                return RewriteStep::Pass(count);
            }
            Ok(NextUnit::Head(length)) => match self.change(&bytes[..length]) {
                Ok(None) => return RewriteStep::Pass(length),
                Ok(Some(new)) => return RewriteStep::Replace(length, new),
                Err(Malformed) => {}
            },
            Ok(NextUnit::Torn) | Err(Malformed) => {}
        }
        self.is_passthrough = true;
        RewriteStep::Pass(bytes.len())
    }

    /// The replacement of a head. `None`: it passes unchanged.
    fn change(&mut self, frames: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        let head = FrameHeader::of(frames).ok_or(Malformed)?;
        let (first, mut rest) = frames[FRAME_HEADER_LENGTH..].split_at(head.length);
        let (priority, block) = unpadded(head.flags, first)?;
        let mut block = Cow::Borrowed(block);
        while let Some(more) = FrameHeader::of(rest) {
            let end = FRAME_HEADER_LENGTH + more.length;
            block
                .to_mut()
                .extend_from_slice(&rest[FRAME_HEADER_LENGTH..end]);
            rest = &rest[end..];
        }
        let scan = self.table.walk(&block, is_odd)?;
        let is_malformed = self.streams.note(head) && scan.has_pseudo_fields;
        let new = replace_paths(&scan, &block).map(|block| head_frames(head, priority, &block));
        if !is_malformed {
            return Ok(new);
        }
        let mut trailers = new.unwrap_or_else(|| frames.to_vec());
        trailers[FLAGS] &= !END_STREAM;
        Ok(Some(trailers))
    }
}

/// Encodes `block` as the frames of a head like that of `header`, without padding.
fn head_frames(header: FrameHeader, priority: &[u8], block: &[u8]) -> Vec<u8> {
    let (first, rest) = block.split_at(block.len().min(MAX_FRAME - priority.len()));
    let mut frames = Vec::with_capacity(block.len() + 4 * FRAME_HEADER_LENGTH);
    let mut write = |kind, flags, parts: [&[u8]; 2]| {
        let length = (parts[0].len() + parts[1].len()) as u32;
        frames.extend_from_slice(&length.to_be_bytes()[1..]);
        frames.extend([kind, flags]);
        frames.extend(header.stream);
        frames.extend_from_slice(&parts.concat());
    };
    let end = |is_last| if is_last { END_HEADERS } else { 0 };
    let flags = header.flags & !(PADDED | END_HEADERS);
    write(HEADERS, flags | end(rest.is_empty()), [priority, first]);
    let mut rest = rest.chunks(MAX_FRAME).peekable();
    while let Some(part) = rest.next() {
        write(CONTINUATION, end(rest.peek().is_none()), [part, &[]]);
    }
    frames
}

/// Classifies the start of `bytes`.
fn unit(bytes: &[u8]) -> Result<NextUnit, Malformed> {
    let Some(first) = FrameHeader::of(bytes) else {
        return Ok(NextUnit::Torn);
    };
    let mut end = FRAME_HEADER_LENGTH + first.length;
    if first.kind != HEADERS {
        return Ok(NextUnit::Frame(first));
    }
    let mut last = first;
    loop {
        if last.length > MAX_FRAME {
            return Err(Malformed);
        }
        let Some(rest) = bytes.get(end..) else {
            return Ok(NextUnit::Torn);
        };
        if last.flags & END_HEADERS != 0 {
            return Ok(NextUnit::Head(end));
        }
        let Some(next) = FrameHeader::of(rest) else {
            return Ok(NextUnit::Torn);
        };
        if next.kind != CONTINUATION || next.stream != first.stream {
            return Err(Malformed);
        }
        end += FRAME_HEADER_LENGTH + next.length;
        last = next;
    }
}

/// The priority data and the block in the payload of HEADERS, RFC 9113 6.2.
fn unpadded(flags: u8, mut payload: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if flags & PADDED != 0 {
        let (padding, rest) = payload.split_first().ok_or(Malformed)?;
        let length = rest.len().checked_sub(usize::from(*padding));
        payload = &rest[..length.ok_or(Malformed)?];
    }
    let priority = match flags & PRIORITY {
        0 => 0,
        _ => PRIORITY_LENGTH,
    };
    payload.split_at_checked(priority).ok_or(Malformed)
}

/// Replaces every odd path in a block by a harmless one and adds the field with the escaped path.
fn replace_paths(scan: &BlockScan, block: &[u8]) -> Option<Vec<u8>> {
    let path = scan.path.as_deref()?;
    let mut new = Vec::with_capacity(block.len() + 4 * path.len());
    let mut at = 0;
    for (range, length) in &scan.written {
        new.extend_from_slice(&block[at..range.start]);
        let mut substitute = vec![b'-'; *length];
        substitute[0] = b'/';
        write_string(&substitute, &mut new);
        at = range.end;
    }
    new.extend_from_slice(&block[at..]);
    write_field(PATH_FIELD.as_str().as_bytes(), &escape_path(path), &mut new);
    Some(new)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
