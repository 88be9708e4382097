use super::*;

/// The blocks of RFC 7541 C.3 and C.4, and the table size after each.
#[test]
fn the_table_sizes_match_the_rfc() {
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
        let mut table = HpackTable::new();
        for (block, size) in blocks.into_iter().zip([57, 110, 164]) {
            let odd = table.walk(block, |_| false).expect("a block");
            assert!(odd.path.is_none() && odd.written.is_empty());
            assert_eq!(table.size, size);
        }
    }
}

#[test]
fn paths_are_found_in_every_encoding() {
    // `/<` in Huffman code: 011000, 111111111111100.
    let coded = [0x83, 0b0110_0011, 0b1111_1111, 0b1110_0111];
    let spelled = b"\x00\x05:path\x02/<";
    let hidden = b"\x00\x84\xb9\x58\xd3\x3f\x02/<";
    let mut table = HpackTable::new();
    let mut found = |block: &[u8]| {
        let odd = table.walk(block, |path| path.contains(&b'<'));
        odd.expect("a block").path.as_deref() == Some(b"/<")
    };
    assert!(!found(b"\x82\x84"));
    assert!(found(b"\x04\x02/<"));
    assert!(found(spelled));
    assert!(found(hidden), "its name is coded");
    assert!(found(&[&[0x04][..], &coded].concat()));
    // The path enters the table and is referenced by index; then only its name is.
    assert!(found(&[&[0x44][..], &coded].concat()));
    assert!(found(b"\xbe"));
    assert!(found(b"\x7e\x02/<"));
    assert!(!found(b"\x0f\x2f\x02/a"));
    // A size update clears the table.
    assert!(!found(b"\x20\x84"));
    assert!(table.walk(b"\xbe", |_| false).is_err());
}

#[test]
fn pseudo_header_fields_are_found_in_every_encoding() {
    let mut table = HpackTable::new();
    let mut found = |block: &[u8]| {
        let scan = table.walk(block, |_| false);
        scan.expect("a block").has_pseudo_fields
    };
    assert!(found(b"\x82") && found(b"\x8e"));
    assert!(!found(b"\x8f") && !found(b"\x0f\x00\x01a"));
    assert!(found(b"\x01\x01a") && found(b"\x41\x01a"));
    // The last one has entered the table.
    assert!(found(b"\xbe") && found(b"\x7e\x01b"));
    assert!(found(b"\x00\x02:x\x00") && !found(b"\x00\x02x:\x00"));
    // `:method` and `x` in Huffman code: 1011100, 101001 …, and 1111001.
    assert!(found(b"\x00\x85\xb9\x49\x53\x39\xe4\x00"));
    assert!(found(b"\x40\x85\xb9\x49\x53\x39\xe4\x00") && found(b"\xbe"));
    assert!(!found(b"\x00\x81\xf3\x00"));
    // The field that only enters the table counts as well, and others that come after it do not hide it.
    assert!(found(b"\x40\x02:y\x00\x00\x01a\x01b"));
    assert!(!found(b""));
}

#[test]
fn invalid_blocks_are_refused() {
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
        let outcome = HpackTable::new().walk(bad, |_| false);
        let is_skipped = bad == b"\x00\x81\x00\x01a";
        assert_eq!(outcome.is_err(), !is_skipped, "{bad:?}");
    }
    assert!(
        HpackTable::new()
            .walk(b"\x3f\xe1\x1f\x82", |_| false)
            .is_ok()
    );
}

#[test]
fn integers_survive_a_round_trip() {
    for length in [0, 1, 126, 127, 128, 254, 255, 256, 16_000, 70_000] {
        let mut written = Vec::new();
        write_string(&vec![b'x'; length], &mut written);
        let (text, end) = string(&written, 0).expect("a text");
        assert_eq!((text.bytes.len(), end), (length, written.len()));
    }
}
