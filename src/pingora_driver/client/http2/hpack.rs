//! Where the path of a request stands in its block of fields, RFC 7541.
//!
//! The `h2` crate decodes the block, and resets a stream whose path the `http` crate does not take. Here the block is
//! walked through without making fields of it, to find such a path; of the table that both sides keep only that is known
//! which this needs: the length of each entry, and which are paths.

use std::collections::VecDeque;
use std::ops::Range;

use super::huffman;
use crate::message::Malformed;

/// The table's size, RFC 9113 6.5.2: our settings do not change it.
const TABLE_SIZE: usize = 4_096;

/// What an entry counts beside its name and value, RFC 7541 4.1.
const ENTRY_OVERHEAD: usize = 32;

const PATH: &[u8] = b":path";

/// The code of [`PATH`].
const PATH_CODED: usize = 4;

/// The names of the table that every decoder knows, RFC 7541 appendix A.
const STATIC_NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// The name of a field.
#[derive(Debug, Clone, Copy)]
struct FieldName {
    length: usize,
    is_path: bool,
}

impl FieldName {
    fn of(text: &[u8]) -> Self {
        FieldName {
            length: text.len(),
            is_path: text == PATH,
        }
    }
}

#[derive(Debug)]
struct TableEntry {
    name: FieldName,
    size: usize,
    /// The value if it is a path that `h2` does not take.
    odd: Option<Box<[u8]>>,
}

/// The paths of a block that `h2` does not take.
#[derive(Debug, Default)]
pub(crate) struct OddPaths {
    /// Where each of them stands, written out: with its length, and how many octets it stands for. One that the table has
    /// does not.
    pub(crate) written: Vec<(Range<usize>, usize)>,
    /// The last one.
    pub(crate) path: Option<Box<[u8]>>,
}

/// The table of a client's encoder.
#[derive(Debug)]
pub(crate) struct HpackTable {
    entries: VecDeque<TableEntry>,
    size: usize,
    max: usize,
    /// A decoded value.
    text: Vec<u8>,
}

impl HpackTable {
    pub(crate) fn new() -> Self {
        HpackTable {
            entries: VecDeque::new(),
            size: 0,
            max: TABLE_SIZE,
            text: Vec::new(),
        }
    }

    /// Walks through a whole block. `is_odd` tells whether a path is one that `h2` does not take.
    pub(crate) fn walk(
        &mut self,
        block: &[u8],
        is_odd: impl Fn(&[u8]) -> bool,
    ) -> Result<OddPaths, Malformed> {
        let mut odd = OddPaths::default();
        let mut at = 0;
        while let Some(first) = block.get(at) {
            match first {
                0x80.. => {
                    let (index, next) = integer(block, at, 7)?;
                    at = next;
                    if let Some(entry) = self.dynamic(index)?
                        && let Some(path) = &entry.odd
                    {
                        odd.path = Some(path.clone());
                    }
                }
                0x40.. => at = self.literal(block, at, 6, &is_odd, &mut odd)?,
                0x20.. => {
                    let (size, next) = integer(block, at, 5)?;
                    if size > TABLE_SIZE {
                        return Err(Malformed);
                    }
                    at = next;
                    self.max = size;
                    self.make_room(0);
                }
                _ => at = self.literal(block, at, 4, &is_odd, &mut odd)?,
            }
        }
        Ok(odd)
    }

    /// A field that is written out, at least its value; returns where the next one begins. One with a prefix of six bits
    /// goes into the table.
    fn literal(
        &mut self,
        block: &[u8],
        at: usize,
        prefix: u32,
        is_odd: &impl Fn(&[u8]) -> bool,
        odd: &mut OddPaths,
    ) -> Result<usize, Malformed> {
        let is_kept = prefix == 6;
        let (index, mut at) = integer(block, at, prefix)?;
        let name = match index {
            0 => {
                let (text, next) = string(block, at)?;
                at = next;
                self.name(text, is_kept)?
            }
            index => match self.dynamic(index)? {
                Some(entry) => entry.name,
                None => FieldName::of(STATIC_NAMES[index - 1].as_bytes()),
            },
        };
        let start = at;
        let (text, next) = string(block, at)?;
        let mut length = text.bytes.len();
        let mut path = None;
        if name.is_path {
            let value = match text.is_coded {
                true => {
                    decode(text.bytes, &mut self.text)?;
                    &self.text
                }
                false => text.bytes,
            };
            length = value.len();
            if is_odd(value) {
                path = Some(Box::from(value));
                odd.written.push((start..next, length));
            }
        } else if is_kept && text.is_coded {
            length = 0;
            huffman::decode(text.bytes, |_| length += 1).ok_or(Malformed)?;
        }
        if path.is_some() {
            odd.path.clone_from(&path);
        }
        if is_kept {
            self.insert(TableEntry {
                name,
                size: name.length + length + ENTRY_OVERHEAD,
                odd: path,
            });
        }
        Ok(next)
    }

    /// A name that is written out, whose length matters if it is kept.
    fn name(&mut self, text: StringLiteral<'_>, is_kept: bool) -> Result<FieldName, Malformed> {
        if !text.is_coded {
            return Ok(FieldName::of(text.bytes));
        }
        if is_kept || text.bytes.len() == PATH_CODED {
            decode(text.bytes, &mut self.text)?;
            return Ok(FieldName::of(&self.text));
        }
        Ok(FieldName {
            length: 0,
            is_path: false,
        })
    }

    /// The entry with this index; `None`: it is one that every decoder knows.
    fn dynamic(&self, index: usize) -> Result<Option<&TableEntry>, Malformed> {
        match index.checked_sub(STATIC_NAMES.len() + 1) {
            None if index > 0 => Ok(None),
            None => Err(Malformed),
            Some(place) => self.entries.get(place).map(Some).ok_or(Malformed),
        }
    }

    fn insert(&mut self, entry: TableEntry) {
        self.make_room(entry.size);
        if entry.size <= self.max {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.max
            && let Some(last) = self.entries.pop_back()
        {
            self.size -= last.size;
        }
    }
}

/// A text of a block.
#[derive(Debug, Clone, Copy)]
struct StringLiteral<'a> {
    bytes: &'a [u8],
    is_coded: bool,
}

fn decode(coded: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    into.clear();
    huffman::decode(coded, |octet| into.push(octet)).ok_or(Malformed)
}

/// The text at a place, and where it ends.
fn string(block: &[u8], at: usize) -> Result<(StringLiteral<'_>, usize), Malformed> {
    let is_coded = block.get(at).is_some_and(|octet| octet & 0x80 != 0);
    let (length, start) = integer(block, at, 7)?;
    let bytes = block.get(start..start + length).ok_or(Malformed)?;
    Ok((StringLiteral { bytes, is_coded }, start + length))
}

/// The number at a place, of which the first octet has so many bits, and where it ends, RFC 7541 5.1. As for `h2` it has
/// no more than five octets.
fn integer(block: &[u8], at: usize, prefix: u32) -> Result<(usize, usize), Malformed> {
    let mask = (1_usize << prefix) - 1;
    let first = usize::from(*block.get(at).ok_or(Malformed)?) & mask;
    if first < mask {
        return Ok((first, at + 1));
    }
    let mut number = first;
    for (place, octet) in block[at + 1..].iter().take(4).enumerate() {
        number += usize::from(octet & 0x7f) << (7 * place);
        if octet & 0x80 == 0 {
            return Ok((number, at + 2 + place));
        }
    }
    Err(Malformed)
}

/// Writes a text as it is, with its length.
pub(crate) fn write_string(text: &[u8], into: &mut Vec<u8>) {
    const MASK: usize = 0x7f;
    match text.len().checked_sub(MASK) {
        None => into.push(text.len() as u8),
        Some(mut rest) => {
            into.push(MASK as u8);
            while rest > MASK {
                into.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            into.push(rest as u8);
        }
    }
    into.extend_from_slice(text);
}

/// Writes a field that the table does not keep.
pub(crate) fn write_field(name: &[u8], value: &[u8], into: &mut Vec<u8>) {
    into.push(0);
    write_string(name, into);
    write_string(value, into);
}

#[cfg(test)]
mod tests;
