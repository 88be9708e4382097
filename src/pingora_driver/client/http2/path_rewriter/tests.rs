use super::*;

pub(super) fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, 1]);
    frame.extend(payload);
    frame
}

/// A frame of a stream with a number below 256.
fn frame_of(stream: u8, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(kind, flags, payload);
    frame[8] = stream;
    frame
}

pub(super) fn start() -> Vec<u8> {
    [&[b'p'; PREFACE][..], &frame(4, 0, &[])].concat()
}

/// The output for bytes that arrive in `pieces`.
pub(super) fn passed(pieces: impl IntoIterator<Item: AsRef<[u8]>>) -> Vec<u8> {
    let mut heads = PathRewriter::new(1_000);
    let mut passed = Vec::new();
    for piece in pieces {
        let piece = piece.as_ref();
        let count = heads.take(piece);
        passed.extend_from_slice(&piece[..count]);
        passed.append(heads.output());
    }
    heads.end();
    passed.append(heads.output());
    passed
}

/// The output for `bytes`, checked for several divisions into reads.
fn rewritten(bytes: &[u8]) -> Vec<u8> {
    let whole = passed([bytes]);
    assert_eq!(passed(bytes.chunks(1)), whole);
    assert_eq!(passed(bytes.chunks(7)), whole);
    whole
}

#[test]
fn ordinary_bytes_pass_unchanged() {
    let block = b"\x82\x87\x04\x04/a^|\x41\x04test";
    let mut bytes = start();
    bytes.extend(frame(HEADERS, END_HEADERS, block));
    bytes.extend(frame(0, 0, &[b'x'; 300]));
    bytes.extend(frame(HEADERS, 0, &block[..3]));
    bytes.extend(frame(CONTINUATION, 0, &[]));
    bytes.extend(frame(CONTINUATION, END_HEADERS, &block[3..]));
    bytes.extend(frame(HEADERS, END_HEADERS | PADDED, &[3, 0x84, 0, 0, 0]));
    assert_eq!(rewritten(&bytes), bytes);
    // Bytes that `h2` rejects pass unchanged as well.
    for bad in [
        frame(HEADERS, END_HEADERS, b"\xbf"),
        frame(HEADERS, END_HEADERS | PADDED, &[9, 0x84]),
        frame(HEADERS, END_HEADERS, &[0x84; MAX_FRAME + 1]),
        [frame(HEADERS, 0, block), frame(0, 0, b"")].concat(),
        [
            frame(HEADERS, 0, block),
            frame(CONTINUATION, 0, &[0; 9_000]).repeat(3),
        ]
        .concat(),
    ] {
        let bytes = [start(), bad, frame(HEADERS, END_HEADERS, b"\x04\x02/<")].concat();
        assert_eq!(passed([&*bytes]), bytes);
        assert_eq!(passed(bytes.chunks(100)), bytes);
    }
}

#[test]
fn an_odd_path_is_replaced_by_one_of_its_length() {
    let field = |value: &[u8]| {
        let mut field = Vec::new();
        write_field(PATH_FIELD.as_str().as_bytes(), value, &mut field);
        field
    };
    let block = b"\x82\x44\x04/<b>\x87";
    let expected = [&b"\x82\x44\x04/---\x87"[..], &field(b"/%3Cb%3E")].concat();
    let again = [&b"\xbe"[..], &field(b"/%3Cb%3E")].concat();
    let priority = b"\0\0\0\0\x10";
    let padded = [&[2][..], priority, b"\xbe\0\0"].concat();
    let sent = [
        start(),
        frame(HEADERS, END_HEADERS, block),
        frame(6, 0, &[1; 8]),
        frame_of(3, HEADERS, END_HEADERS | PADDED | PRIORITY, &padded),
        frame_of(5, HEADERS, END_STREAM, b""),
        frame_of(5, CONTINUATION, END_HEADERS, b"\xbe"),
        frame(0, 1, b"abc"),
    ];
    let got = [
        start(),
        frame(HEADERS, END_HEADERS, &expected),
        frame(6, 0, &[1; 8]),
        frame_of(
            3,
            HEADERS,
            END_HEADERS | PRIORITY,
            &[priority, &*again].concat(),
        ),
        frame_of(5, HEADERS, END_STREAM | END_HEADERS, &again),
        frame(0, 1, b"abc"),
    ];
    assert_eq!(rewritten(&sent.concat()), got.concat());
}

#[test]
fn trailers_with_pseudo_header_fields_do_not_end_the_stream() {
    const END: u8 = END_STREAM | END_HEADERS;
    let head = b"\x83\x87\x84\x41\x04test";
    let open = [start(), frame(HEADERS, END_HEADERS, head)].concat();
    let after = |more: &[Vec<u8>]| [open.clone(), more.concat()].concat();
    let field = b"\x00\x01a\x01b";
    // The last one has `:authority` in the table.
    for pseudo in [&b"\x84"[..], b"\x01\x01a", b"\x00\x02:x\x00", b"\xbe"] {
        let trailers = [&field[..], pseudo].concat();
        let sent = after(&[frame(0, 0, b"body"), frame(HEADERS, END, &trailers)]);
        let got = after(&[frame(0, 0, b"body"), frame(HEADERS, END_HEADERS, &trailers)]);
        assert_eq!(rewritten(&sent), got);
        let continued = frame(CONTINUATION, END_HEADERS, &trailers);
        let sent = after(&[frame(HEADERS, END_STREAM, b""), continued.clone()]);
        let got = after(&[frame(HEADERS, 0, b""), continued]);
        assert_eq!(rewritten(&sent), got);
    }
    // Ordinary trailers pass, and so do heads of other streams and what `h2` finds to be out of place.
    for unchanged in [
        after(&[frame(HEADERS, END, field)]),
        after(&[frame_of(3, HEADERS, END, head)]),
        after(&[frame(0, END_STREAM, b""), frame(HEADERS, END, head)]),
        after(&[frame(3, 0, &[0; 4]), frame(HEADERS, END, head)]),
        after(&[frame(HEADERS, END, field), frame(HEADERS, END, head)]),
    ] {
        assert_eq!(rewritten(&unchanged), unchanged);
    }
}

#[test]
fn a_long_path_spans_several_frames() {
    let mut block = vec![0x04];
    write_string(&[&b"/"[..], &[b'<'; 14_000]].concat(), &mut block);
    let sent = [start(), frame(HEADERS, END_HEADERS, &block)].concat();
    let got = passed([&*sent]);
    let mut rest = &got[start().len()..];
    let mut kinds = Vec::new();
    while let Some(head) = FrameHeader::of(rest) {
        assert!(head.length <= MAX_FRAME);
        kinds.push((head.kind, head.flags & END_HEADERS));
        rest = &rest[FRAME_HEADER_LENGTH + head.length..];
    }
    let more = (CONTINUATION, 0);
    let last = (CONTINUATION, END_HEADERS);
    assert_eq!(kinds, [(HEADERS, 0), more, more, last]);
}

#[test]
fn a_path_is_odd_if_http_changes_or_rejects_it() {
    let mut path = b"/a?b".to_vec();
    for octet in 0..=255 {
        for position in [1, 3] {
            path[position] = octet;
            let uri = http::uri::PathAndQuery::try_from(&*path);
            let takes = uri.is_ok_and(|uri| uri.as_str().as_bytes() == path);
            assert_eq!(is_odd(&path), !takes, "{}", path.escape_ascii());
            let restore_path = escape_path(&path);
            let refused = octet <= b' ' || octet == b'#' || octet == 0x7f;
            assert_eq!(restore_path.is_empty(), refused, "{octet}");
            if !refused {
                assert!(!is_odd(&restore_path), "{octet}");
            }
            path = b"/a?b".to_vec();
        }
    }
    assert!(is_odd(b"a") && is_odd(b"http://test/") && is_odd(b"**"));
    assert!(!is_odd(b"*") && !is_odd(b"/caf\xc3\xa9"));
    assert_eq!(escape_path(b"/\xff\xc3\xa9<"), b"/%FF%C3%A9%3C");
    assert_eq!(escape_path("/\u{e9}<".as_bytes()), "/\u{e9}%3C".as_bytes());
    assert_eq!(escape_path(b"a<"), b"");
    assert_eq!(escape_path(b"/`\"?`\"<"), b"/%60\"?`%22%3C");
}
