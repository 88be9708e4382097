//! Requests of HTTP/2 whose path the `http` crate does not take, brought past it.
//!
//! The `h2` crate resets a stream whose path has `<`, `>` or a backtick, and drops what follows a `#`. So such a path is
//! taken out of the bytes on their way to it: a path of the same length stands in its place, which keeps the table of
//! HPACK as it would be, and the request gets a field with what is to become of it. The field's name is a random one of
//! this process, which no client knows; [`judged`] takes it out of the request when the stream is accepted.
//!
//! All other bytes pass as they are, at once where a frame has come as a whole. What does not keep to HTTP/2, or is longer
//! than it may be, is for `h2` to refuse: from there on nothing is looked at.

use std::sync::LazyLock;

use http::Uri;
use http::header::HeaderName;
use http::uri::PathAndQuery;
use pingora::http::RequestHeader;

use super::hpack::{OddPaths, Table, write_field, write_string};
use crate::message::Malformed;

/// The length of the preface, RFC 9113 3.4.
const PREFACE: usize = 24;

/// The length of a frame's head.
const FRAME_HEAD: usize = 9;

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
static FIELD: LazyLock<HeaderName> = LazyLock::new(|| {
    let name = format!("ballast-path-{:032x}", rand::random::<u128>());
    HeaderName::from_bytes(name.as_bytes()).expect("letters, digits and hyphens")
});

/// Takes what was found of a request's path out of it. `Err`: the path is not one.
pub(super) fn judged(request: &mut RequestHeader) -> Result<(), Malformed> {
    let Some(path) = request.remove_header(&*FIELD) else {
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
pub(in crate::proxy) struct Heads {
    /// Bytes that pass before the next frame begins.
    passing: usize,
    /// Frames of a head, or a frame's head, that are not whole.
    held: Vec<u8>,
    /// What goes out before anything else.
    out: Vec<u8>,
    table: Table,
    /// How many bytes of a head may be held.
    limit: usize,
    /// Whether nothing is looked at any more.
    is_blind: bool,
}

/// What begins at a place.
enum Unit {
    /// More bytes are needed to tell.
    Torn,
    /// A frame that passes, with this length.
    Frame(usize),
    /// A whole head, with this length.
    Head(usize),
}

/// What becomes of the bytes at a place.
enum Step {
    /// So many pass as they are.
    Pass(usize),
    /// All of them are held.
    Hold,
    /// In place of so many of them these go out.
    Change(usize, Vec<u8>),
}

impl Heads {
    /// Those of a connection that begins. `limit` is the length that no list of fields may have.
    pub(in crate::proxy) fn new(limit: usize) -> Self {
        Heads {
            passing: PREFACE,
            held: Vec::new(),
            out: Vec::new(),
            table: Table::new(),
            limit: limit.saturating_add(MAX_FRAME),
            is_blind: false,
        }
    }

    /// What is to go out before anything else is taken.
    pub(in crate::proxy) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Takes what has come; returns how many bytes of it pass as they are. The rest is held, or goes out behind them.
    pub(in crate::proxy) fn take(&mut self, bytes: &[u8]) -> usize {
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            let is_torn = matches!(unit(&self.held), Ok(Unit::Torn));
            if !is_torn || self.held.len() > self.limit {
                let held = std::mem::take(&mut self.held);
                self.copy(&held);
            }
            return 0;
        }
        let mut at = 0;
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                Step::Pass(count) => at += count,
                Step::Hold => {
                    self.held.extend_from_slice(&bytes[at..]);
                    break;
                }
                Step::Change(count, new) => {
                    self.out.extend_from_slice(&new);
                    self.copy(&bytes[at + count..]);
                    break;
                }
            }
        }
        at
    }

    /// Nothing more comes.
    pub(in crate::proxy) fn end(&mut self) {
        self.is_blind = true;
        self.out.append(&mut self.held);
    }

    /// Takes bytes that cannot pass where they are.
    fn copy(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = match self.step(bytes) {
                Step::Pass(count) => {
                    self.out.extend_from_slice(&bytes[..count]);
                    count
                }
                Step::Hold => {
                    self.held.extend_from_slice(bytes);
                    return;
                }
                Step::Change(count, new) => {
                    self.out.extend_from_slice(&new);
                    count
                }
            };
            bytes = &bytes[count..];
        }
    }

    fn step(&mut self, bytes: &[u8]) -> Step {
        if self.is_blind {
            return Step::Pass(bytes.len());
        }
        if self.passing > 0 {
            let count = self.passing.min(bytes.len());
            self.passing -= count;
            return Step::Pass(count);
        }
        match unit(bytes) {
            Ok(Unit::Torn) if bytes.len() <= self.limit => return Step::Hold,
            Ok(Unit::Frame(length)) => {
                let count = length.min(bytes.len());
                self.passing = length - count;
                return Step::Pass(count);
            }
            Ok(Unit::Head(length)) => match self.change(&bytes[..length]) {
                Ok(None) => return Step::Pass(length),
                Ok(Some(new)) => return Step::Change(length, new),
                Err(Malformed) => {}
            },
            Ok(Unit::Torn) | Err(Malformed) => {}
        }
        self.is_blind = true;
        Step::Pass(bytes.len())
    }

    /// What goes out in place of a head; `None`: the head itself.
    fn change(&mut self, frames: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        let head = FrameHead::of(frames).ok_or(Malformed)?;
        let (first, mut rest) = frames[FRAME_HEAD..].split_at(head.length);
        let (priority, block) = unpadded(head.flags, first)?;
        if rest.is_empty() {
            let odd = self.table.walk(block, is_odd)?;
            return Ok(without(&odd, block).map(|block| head.frames(priority, &block)));
        }
        let mut block = block.to_vec();
        while let Some(more) = FrameHead::of(rest) {
            let end = FRAME_HEAD + more.length;
            block.extend_from_slice(&rest[FRAME_HEAD..end]);
            rest = &rest[end..];
        }
        let odd = self.table.walk(&block, is_odd)?;
        Ok(without(&odd, &block).map(|block| head.frames(priority, &block)))
    }
}

#[derive(Debug, Clone, Copy)]
struct FrameHead {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl FrameHead {
    /// The one at the beginning of `bytes`, if it is whole.
    fn of(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, a, b, c, d, ..] = *bytes else {
            return None;
        };
        Some(FrameHead {
            length: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            stream: [a, b, c, d],
        })
    }

    /// The frames of a head like this one, without padding.
    fn frames(self, priority: &[u8], block: &[u8]) -> Vec<u8> {
        let (first, rest) = block.split_at(block.len().min(MAX_FRAME - priority.len()));
        let mut frames = Vec::with_capacity(block.len() + 4 * FRAME_HEAD);
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
fn unit(bytes: &[u8]) -> Result<Unit, Malformed> {
    let Some(first) = FrameHead::of(bytes) else {
        return Ok(Unit::Torn);
    };
    let mut end = FRAME_HEAD + first.length;
    if first.kind != HEADERS {
        return Ok(Unit::Frame(end));
    }
    let mut last = first;
    loop {
        if last.length > MAX_FRAME {
            return Err(Malformed);
        }
        let Some(rest) = bytes.get(end..) else {
            return Ok(Unit::Torn);
        };
        if last.flags & END_HEADERS != 0 {
            return Ok(Unit::Head(end));
        }
        let Some(next) = FrameHead::of(rest) else {
            return Ok(Unit::Torn);
        };
        if next.kind != CONTINUATION || next.stream != first.stream {
            return Err(Malformed);
        }
        end += FRAME_HEAD + next.length;
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
fn without(odd: &OddPaths, block: &[u8]) -> Option<Vec<u8>> {
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
    write_field(FIELD.as_str().as_bytes(), &judge(path), &mut new);
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
fn judge(path: &[u8]) -> Vec<u8> {
    let is_bad = |octet: &u8| *octet == b'#' || *octet == b' ' || octet.is_ascii_control();
    if !matches!(path, [b'/' | b'?', ..]) || path.iter().any(is_bad) {
        return Vec::new();
    }
    let is_text = std::str::from_utf8(path).is_ok();
    let mut query = false;
    let mut judged = Vec::with_capacity(path.len() + 16);
    for octet in path {
        query |= *octet == b'?';
        if is_plain(*octet, query) && (is_text || octet.is_ascii()) {
            judged.push(*octet);
        } else {
            judged.extend_from_slice(&escaped(*octet));
        }
    }
    judged
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
