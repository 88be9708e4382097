//! Finds the path and the pseudo-header fields of a request in its HPACK block, RFC 7541.
//!
//! The `h2` crate decodes the block, resets the stream if the `http` crate rejects the path, and ignores pseudo-header
//! fields in trailers. To find them first, this module walks through the block without building the fields. Of the
//! dynamic table it stores only what that requires: the size of each entry, and which entries are of these kinds.

use std::collections::VecDeque;
use std::ops::Range;

use super::huffman;
use crate::message::Malformed;

/// Size of the dynamic table in bytes, RFC 9113 6.5.2. Our settings do not change it.
const TABLE_SIZE: usize = 4_096;

/// Size that an entry adds to its name and value, RFC 7541 4.1.
const ENTRY_OVERHEAD: usize = 32;

const PATH: &[u8] = b":path";

/// Length of [`PATH`] in its Huffman code.
const PATH_CODED: usize = 4;

/// The Huffman code of the colon that pseudo-header fields begin with, which is 7 bits long.
const COLON_CODED: u8 = 0b101_1100;

/// The names in the static table, RFC 7541 appendix A.
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

#[derive(Debug, Clone, Copy)]
struct FieldName {
    length: usize,
    is_path: bool,
    is_pseudo: bool,
}

impl FieldName {
    fn of(text: &[u8]) -> Self {
        FieldName {
            length: text.len(),
            is_path: text == PATH,
            is_pseudo: text.first() == Some(&b':'),
        }
    }
}

#[derive(Debug)]
struct TableEntry {
    name: FieldName,
    size: usize,
    /// The value, if it is a path that `h2` rejects.
    odd: Option<Box<[u8]>>,
}

/// What a block has that `h2` rejects or ignores.
#[derive(Debug, Default)]
pub(crate) struct BlockScan {
    /// The position of each path that `h2` rejects and that is a literal, with its length prefix, and the length of its decoded value.
    /// Paths from the dynamic table have no position.
    pub(crate) written: Vec<(Range<usize>, usize)>,
    /// The last such path in the block.
    pub(crate) path: Option<Box<[u8]>>,
    /// Whether there are pseudo-header fields.
    pub(crate) has_pseudo_fields: bool,
}

/// The dynamic table of a client's encoder.
#[derive(Debug)]
pub(crate) struct HpackTable {
    entries: VecDeque<TableEntry>,
    size: usize,
    max: usize,
    /// Buffer for a decoded value.
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

    /// Walks through a complete block. `is_odd` returns whether `h2` rejects a path.
    pub(crate) fn walk(
        &mut self,
        block: &[u8],
        is_odd: impl Fn(&[u8]) -> bool,
    ) -> Result<BlockScan, Malformed> {
        let mut scan = BlockScan::default();
        let mut at = 0;
        while let Some(first) = block.get(at) {
            match first {
                0x80.. => {
                    let (index, next) = integer(block, at, 7)?;
                    at = next;
                    match self.dynamic(index)? {
                        Some(entry) => {
                            scan.has_pseudo_fields |= entry.name.is_pseudo;
                            if let Some(path) = &entry.odd {
                                scan.path = Some(path.clone());
                            }
                        }
                        None => scan.has_pseudo_fields |= static_name(index).is_pseudo,
                    }
                }
                0x40.. => at = self.literal(block, at, 6, &is_odd, &mut scan)?,
                0x20.. => {
                    let (size, next) = integer(block, at, 5)?;
                    if size > TABLE_SIZE {
                        return Err(Malformed);
                    }
                    at = next;
                    self.max = size;
                    self.make_room(0);
                }
                _ => at = self.literal(block, at, 4, &is_odd, &mut scan)?,
            }
        }
        Ok(scan)
    }

    /// Reads a field whose value is a literal and returns the position after it. With a `prefix` of six bits the field
    /// enters the table.
    fn literal(
        &mut self,
        block: &[u8],
        at: usize,
        prefix: u32,
        is_odd: &impl Fn(&[u8]) -> bool,
        scan: &mut BlockScan,
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
                None => static_name(index),
            },
        };
        scan.has_pseudo_fields |= name.is_pseudo;
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
                scan.written.push((start..next, length));
            }
        } else if is_kept && text.is_coded {
            length = 0;
            huffman::decode(text.bytes, |_| length += 1).ok_or(Malformed)?;
        }
        if path.is_some() {
            scan.path.clone_from(&path);
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

    /// Reads a literal name. Its length only matters if the table keeps it.
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
            is_pseudo: text
                .bytes
                .first()
                .is_some_and(|octet| octet >> 1 == COLON_CODED),
        })
    }

    /// The entry with this index. `None`: it is in the static table.
    fn dynamic(&self, index: usize) -> Result<Option<&TableEntry>, Malformed> {
        match index.checked_sub(STATIC_NAMES.len() + 1) {
            None if index > 0 => Ok(None),
            None => Err(Malformed),
            Some(index) => self.entries.get(index).map(Some).ok_or(Malformed),
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

/// The name at an index of the static table, from 1 on.
fn static_name(index: usize) -> FieldName {
    FieldName::of(STATIC_NAMES[index - 1].as_bytes())
}

/// A string literal of a block.
#[derive(Debug, Clone, Copy)]
struct StringLiteral<'a> {
    bytes: &'a [u8],
    is_coded: bool,
}

fn decode(coded: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    into.clear();
    huffman::decode(coded, |octet| into.push(octet)).ok_or(Malformed)
}

/// Reads the string literal at a position and returns the position after it.
fn string(block: &[u8], at: usize) -> Result<(StringLiteral<'_>, usize), Malformed> {
    let is_coded = block.get(at).is_some_and(|octet| octet & 0x80 != 0);
    let (length, start) = integer(block, at, 7)?;
    let bytes = block.get(start..start + length).ok_or(Malformed)?;
    Ok((StringLiteral { bytes, is_coded }, start + length))
}

/// Reads an integer with a prefix of `prefix` bits and returns the position after it, RFC 7541 5.1. Like `h2`, it
/// accepts at most five bytes.
fn integer(block: &[u8], at: usize, prefix: u32) -> Result<(usize, usize), Malformed> {
    let mask = (1_usize << prefix) - 1;
    let first = usize::from(*block.get(at).ok_or(Malformed)?) & mask;
    if first < mask {
        return Ok((first, at + 1));
    }
    let mut number = first;
    for (index, octet) in block[at + 1..].iter().take(4).enumerate() {
        number += usize::from(octet & 0x7f) << (7 * index);
        if octet & 0x80 == 0 {
            return Ok((number, at + 2 + index));
        }
    }
    Err(Malformed)
}

/// Appends a string literal without Huffman code.
pub(crate) fn write_string(text: &[u8], into: &mut Vec<u8>) {
    const MASK: usize = 0x7f;
    match text.len().checked_sub(MASK) {
        None => into.push(text.len() as u8),
        Some(mut remaining) => {
            into.push(MASK as u8);
            while remaining > MASK {
                into.push(remaining as u8 | 0x80);
                remaining >>= 7;
            }
            into.push(remaining as u8);
        }
    }
    into.extend_from_slice(text);
}

/// Appends a field that is not added to the table.
pub(crate) fn write_field(name: &[u8], value: &[u8], into: &mut Vec<u8>) {
    into.push(0);
    write_string(name, into);
    write_string(value, into);
}

#[cfg(test)]
mod tests;
