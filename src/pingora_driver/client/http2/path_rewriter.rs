//! Requests of HTTP/2 whose path the `http` crate does not take, brought past it.
//!
//! The `h2` crate resets a stream whose path has `<`, `>` or a backtick, and drops what follows a `#`. So such a path is
//! taken out of the bytes on their way to it: a path of the same length stands in its place, which keeps the table of
//! HPACK as it would be, and the request gets a field with what is to become of it. The field's name is a random one of
//! this process, which no client knows; [`restore_path`] takes it out of the request when the stream is accepted.
//!
//! All other bytes pass as they are, at once where a frame has come as a whole. What does not keep to HTTP/2, or is longer
//! than it may be, is for `h2` to refuse: from there on nothing is looked at.

use std::sync::LazyLock;

use http::Uri;
use http::header::HeaderName;
use http::uri::PathAndQuery;
use pingora::http::RequestHeader;

use super::hpack::{HpackTable, OddPaths, write_field, write_string};
use crate::message::Malformed;

/// The length of the preface, RFC 9113 3.4.
const PREFACE: usize = 24;

/// The length of a frame's head.
const FRAME_HEADER_LENGTH: usize = 9;

/// The largest frame that our settings allow.
const MAX_FRAME: usize = 16_384;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// What PRIORITY puts before the block.
const PRIORITY_LENGTH: usize = 5;

/// The name of the field that says what is to become of a path.
static PATH_FIELD: LazyLock<HeaderName> = LazyLock::new(|| {
    let name = format!("ballast-path-{:032x}", rand::random::<u128>());
    HeaderName::from_bytes(name.as_bytes()).expect("letters, digits and hyphens")
});

/// Takes what was found of a request's path out of it. `Err`: the path is not one.
pub(crate) fn restore_path(request: &mut RequestHeader) -> Result<(), Malformed> {
    let Some(path) = request.remove_header(&*PATH_FIELD) else {
        return Ok(());
    };
    if path.is_empty() {
        return Err(Malformed);
    }
    // The authority stands beside it.
    let mut parts = request.uri.clone().into_parts();
    let path = PathAndQuery::try_from(path.as_bytes()).map_err(|_| Malformed)?;
    parts.path_and_query = Some(path);
    request.set_uri(Uri::from_parts(parts).map_err(|_| Malformed)?);
    Ok(())
}

/// A client's bytes on their way to `h2`.
#[derive(Debug)]
pub(crate) struct PathRewriter {
    /// Bytes that pass before the next frame begins.
    passing: usize,
    /// Frames of a head, or a frame's head, that are not whole.
    held: Vec<u8>,
    /// What goes out before anything else.
    out: Vec<u8>,
    table: HpackTable,
    /// How many bytes of a head may be held.
    limit: usize,
    /// Whether nothing is looked at any more.
    is_passthrough: bool,
}

/// What begins at a place.
enum NextUnit {
    /// More bytes are needed to tell.
    Torn,
    /// A frame that passes, with this length.
    Frame(usize),
    /// A whole head, with this length.
    Head(usize),
}

/// What becomes of the bytes at a place.
enum RewriteStep {
    /// So many pass as they are.
    Pass(usize),
    /// All of them are held.
    Hold,
    /// In place of so many of them these go out.
    Replace(usize, Vec<u8>),
}

impl PathRewriter {
    /// Those of a connection that begins. `limit` is the length that no list of fields may have.
    pub(crate) fn new(limit: usize) -> Self {
        PathRewriter {
            passing: PREFACE,
            held: Vec::new(),
            out: Vec::new(),
            table: HpackTable::new(),
            limit: limit.saturating_add(MAX_FRAME),
            is_passthrough: false,
        }
    }

    /// What is to go out before anything else is taken.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Takes what has come; returns how many bytes of it pass as they are. The rest is held, or goes out behind them.
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

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        self.is_passthrough = true;
        self.out.append(&mut self.held);
    }

    /// Takes bytes that cannot pass where they are.
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
            Ok(NextUnit::Frame(length)) => {
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

    /// What goes out in place of a head; `None`: the head itself.
    fn change(&mut self, frames: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        let head = FrameHeader::of(frames).ok_or(Malformed)?;
        let (first, mut rest) = frames[FRAME_HEADER_LENGTH..].split_at(head.length);
        let (priority, block) = unpadded(head.flags, first)?;
        if rest.is_empty() {
            let odd = self.table.walk(block, is_odd)?;
            return Ok(replace_paths(&odd, block).map(|block| head.frames(priority, &block)));
        }
        let mut block = block.to_vec();
        while let Some(more) = FrameHeader::of(rest) {
            let end = FRAME_HEADER_LENGTH + more.length;
            block.extend_from_slice(&rest[FRAME_HEADER_LENGTH..end]);
            rest = &rest[end..];
        }
        let odd = self.table.walk(&block, is_odd)?;
        Ok(replace_paths(&odd, &block).map(|block| head.frames(priority, &block)))
    }
}

#[derive(Debug, Clone, Copy)]
struct FrameHeader {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl FrameHeader {
    /// The one at the beginning of `bytes`, if it is whole.
    fn of(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, a, b, c, d, ..] = *bytes else {
            return None;
        };
        Some(FrameHeader {
            length: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            stream: [a, b, c, d],
        })
    }

    /// The frames of a head like this one, without padding.
    fn frames(self, priority: &[u8], block: &[u8]) -> Vec<u8> {
        let (first, rest) = block.split_at(block.len().min(MAX_FRAME - priority.len()));
        let mut frames = Vec::with_capacity(block.len() + 4 * FRAME_HEADER_LENGTH);
        let mut write = |kind, flags, parts: [&[u8]; 2]| {
            let length = (parts[0].len() + parts[1].len()) as u32;
            frames.extend_from_slice(&length.to_be_bytes()[1..]);
            frames.extend([kind, flags]);
            frames.extend(self.stream);
            frames.extend_from_slice(&parts.concat());
        };
        let end = |is_last| if is_last { END_HEADERS } else { 0 };
        let flags = self.flags & !(PADDED | END_HEADERS);
        write(HEADERS, flags | end(rest.is_empty()), [priority, first]);
        let mut rest = rest.chunks(MAX_FRAME).peekable();
        while let Some(part) = rest.next() {
            write(CONTINUATION, end(rest.peek().is_none()), [part, &[]]);
        }
        frames
    }
}

/// What `bytes` begin with.
fn unit(bytes: &[u8]) -> Result<NextUnit, Malformed> {
    let Some(first) = FrameHeader::of(bytes) else {
        return Ok(NextUnit::Torn);
    };
    let mut end = FRAME_HEADER_LENGTH + first.length;
    if first.kind != HEADERS {
        return Ok(NextUnit::Frame(end));
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

/// The priority and the block in the payload of HEADERS, RFC 9113 6.2.
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

/// A block in which `h2` finds another path in place of each odd one, and what is to become of the request.
fn replace_paths(odd: &OddPaths, block: &[u8]) -> Option<Vec<u8>> {
    let path = odd.path.as_deref()?;
    let mut new = Vec::with_capacity(block.len() + 4 * path.len());
    let mut at = 0;
    for (place, length) in &odd.written {
        new.extend_from_slice(&block[at..place.start]);
        let mut other = vec![b'-'; *length];
        other[0] = b'/';
        write_string(&other, &mut new);
        at = place.end;
    }
    new.extend_from_slice(&block[at..]);
    write_field(PATH_FIELD.as_str().as_bytes(), &escape_path(path), &mut new);
    Some(new)
}

/// Whether the `http` crate takes this octet of a path, or with `query` of what follows its question mark. Those that are
/// not ASCII it takes if all are UTF-8.
fn is_plain(octet: u8, query: bool) -> bool {
    match octet {
        b'"' | b'?' if query => octet == b'?',
        b'`' => query,
        b'"' | b'!' | 0x24..=0x3b | b'=' | 0x3f..=0x7e | 0x80.. => true,
        _ => false,
    }
}

/// Whether the `http` crate does not take a path, or changes it. An empty one is left to `h2`.
fn is_odd(path: &[u8]) -> bool {
    let mut query = false;
    let mut is_ascii = true;
    let is_plain = path.iter().all(|octet| {
        query |= *octet == b'?';
        is_ascii &= octet.is_ascii();
        is_plain(*octet, query)
    });
    let begins = matches!(path, [] | [b'/' | b'?', ..] | [b'*']);
    !is_plain || !begins || (!is_ascii && std::str::from_utf8(path).is_err())
}

/// What the host gets in place of an odd path: the same one with octets escaped that must be. Empty: the request is
/// refused, as in HTTP/1.1.
fn escape_path(path: &[u8]) -> Vec<u8> {
    let is_bad = |octet: &u8| *octet == b'#' || *octet == b' ' || octet.is_ascii_control();
    if !matches!(path, [b'/' | b'?', ..]) || path.iter().any(is_bad) {
        return Vec::new();
    }
    let is_text = std::str::from_utf8(path).is_ok();
    let mut query = false;
    let mut restore_path = Vec::with_capacity(path.len() + 16);
    for octet in path {
        query |= *octet == b'?';
        if is_plain(*octet, query) && (is_text || octet.is_ascii()) {
            restore_path.push(*octet);
        } else {
            restore_path.extend_from_slice(&escaped(*octet));
        }
    }
    restore_path
}

/// An octet as a percent sign and two digits.
fn escaped(octet: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| DIGITS[usize::from(half & 0xf)];
    [b'%', digit(octet >> 4), digit(octet)]
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
