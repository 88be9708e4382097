//! Where the path of a request stands in its block of fields, RFC 7541.
//!
//! The `h2` crate decodes the block, and resets a stream whose path the `http` crate does not take. Here the block is
//! walked through without making fields of it, to find such a path; of the table that both sides keep no more is known
//! than what that needs: the length of each entry, and which are paths.

use std::collections::VecDeque;
use std::ops::Range;

use super::Malformed;
use super::huffman;

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
struct Name {
    length: usize,
    is_path: bool,
}

impl Name {
    fn of(text: &[u8]) -> Self {
        Name {
            length: text.len(),
            is_path: text == PATH,
        }
    }
}

#[derive(Debug)]
struct Entry {
    name: Name,
    size: usize,
    /// The value if it is a path that `h2` does not take.
    odd: Option<Box<[u8]>>,
}

/// The paths of a block that `h2` does not take.
#[derive(Debug, Default)]
pub(super) struct OddPaths {
    /// Where each of them stands, written out: with its length, and how many octets it stands for. One that the table has
    /// does not.
    pub(super) written: Vec<(Range<usize>, usize)>,
    /// The last one.
    pub(super) path: Option<Box<[u8]>>,
}

/// The table of a client's encoder.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
    /// A decoded value.
    text: Vec<u8>,
}

impl Table {
    pub(super) fn new() -> Self {
        Table {
            entries: VecDeque::new(),
            size: 0,
            max: TABLE_SIZE,
            text: Vec::new(),
        }
    }

    /// Walks through a whole block. `is_odd` tells whether a path is one that `h2` does not take.
    pub(super) fn walk(
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
                None => Name::of(STATIC_NAMES[index - 1].as_bytes()),
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
            self.insert(Entry {
                name,
                size: name.length + length + ENTRY_OVERHEAD,
                odd: path,
            });
        }
        Ok(next)
    }

    /// A name that is written out, whose length matters if it is kept.
    fn name(&mut self, text: Text<'_>, is_kept: bool) -> Result<Name, Malformed> {
        if !text.is_coded {
            return Ok(Name::of(text.bytes));
        }
        if is_kept || text.bytes.len() == PATH_CODED {
            decode(text.bytes, &mut self.text)?;
            return Ok(Name::of(&self.text));
        }
        Ok(Name {
            length: 0,
            is_path: false,
        })
    }

    /// The entry with this index; `None`: it is one that every decoder knows.
    fn dynamic(&self, index: usize) -> Result<Option<&Entry>, Malformed> {
        match index.checked_sub(STATIC_NAMES.len() + 1) {
            None if index > 0 => Ok(None),
            None => Err(Malformed),
            Some(place) => self.entries.get(place).map(Some).ok_or(Malformed),
        }
    }

    fn insert(&mut self, entry: Entry) {
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
struct Text<'a> {
    bytes: &'a [u8],
    is_coded: bool,
}

fn decode(coded: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    into.clear();
    huffman::decode(coded, |octet| into.push(octet)).ok_or(Malformed)
}

/// The text at a place, and where it ends.
fn string(block: &[u8], at: usize) -> Result<(Text<'_>, usize), Malformed> {
    let is_coded = block.get(at).is_some_and(|octet| octet & 0x80 != 0);
    let (length, start) = integer(block, at, 7)?;
    let bytes = block.get(start..start + length).ok_or(Malformed)?;
    Ok((Text { bytes, is_coded }, start + length))
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
pub(super) fn write_string(text: &[u8], into: &mut Vec<u8>) {
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
pub(super) fn write_field(name: &[u8], value: &[u8], into: &mut Vec<u8>) {
    into.push(0);
    write_string(name, into);
    write_string(value, into);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of RFC 7541 C.3 and C.4, and how large the table is after each.
    #[test]
    fn the_table_is_that_of_the_rfc() {
        let plain: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x0fwww.example.com",
            b"\x82\x86\x84\xbe\x58\x08no-cache",
            b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
        ];
        let coded: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ];
        for blocks in [plain, coded] {
            let mut table = Table::new();
            for (block, size) in blocks.into_iter().zip([57, 110, 164]) {
                let odd = table.walk(block, |_| false).expect("a block");
                assert!(odd.path.is_none() && odd.written.is_empty());
                assert_eq!(table.size, size);
            }
        }
    }

    #[test]
    fn paths_are_found_however_they_are_written() {
        // `/<` in Huffman's code: 011000, 111111111111100.
        let coded = [0x83, 0b0110_0011, 0b1111_1111, 0b1110_0111];
        let spelled = b"\x00\x05:path\x02/<";
        let hidden = b"\x00\x84\xb9\x58\xd3\x3f\x02/<";
        let mut table = Table::new();
        let mut found = |block: &[u8]| {
            let odd = table.walk(block, |path| path.contains(&b'<'));
            odd.expect("a block").path.as_deref() == Some(b"/<")
        };
        assert!(!found(b"\x82\x84"));
        assert!(found(b"\x04\x02/<"));
        assert!(found(spelled));
        assert!(found(hidden), "its name is coded");
        assert!(found(&[&[0x04][..], &coded].concat()));
        // Kept, and asked for again; then its name alone.
        assert!(found(&[&[0x44][..], &coded].concat()));
        assert!(found(b"\xbe"));
        assert!(found(b"\x7e\x02/<"));
        assert!(!found(b"\x0f\x2f\x02/a"));
        // An update of the size forgets all.
        assert!(!found(b"\x20\x84"));
        assert!(table.walk(b"\xbe", |_| false).is_err());
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for bad in [
            &b"\x80"[..],
            b"\xbe",
            b"\x04",
            b"\x04\x05abc",
            b"\x04\xff\xff\xff\xff\xff\x01",
            b"\x3f\xe2\x1f\x82",
            b"\x44\x81\xff",
            b"\x00\x81\x00\x01a",
        ] {
            let outcome = Table::new().walk(bad, |_| false);
            let is_skipped = bad == b"\x00\x81\x00\x01a";
            assert_eq!(outcome.is_err(), !is_skipped, "{bad:?}");
        }
        assert!(Table::new().walk(b"\x3f\xe1\x1f\x82", |_| false).is_ok());
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for length in [0, 1, 126, 127, 128, 254, 255, 256, 16_000, 70_000] {
            let mut written = Vec::new();
            write_string(&vec![b'x'; length], &mut written);
            let (text, end) = string(&written, 0).expect("a text");
            assert_eq!((text.bytes.len(), end), (length, written.len()));
        }
    }
}
