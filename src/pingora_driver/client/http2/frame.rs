//! The layout of HTTP/2 frames, RFC 9113 4.1 and 6.

/// Length of the connection preface in bytes, RFC 9113 3.4.
pub(super) const PREFACE: usize = 24;

/// Length of a frame header in bytes.
pub(super) const FRAME_HEADER_LENGTH: usize = 9;

/// The largest frame payload that our settings allow, in bytes.
pub(super) const MAX_FRAME: usize = 16_384;

// Types of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

// Flags of frames.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 0x20;

/// A frame header, RFC 9113 4.1.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHeader {
    /// Length of the payload in bytes.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: [u8; 4],
}

impl FrameHeader {
    /// The frame header at the start of `bytes`, if it is complete.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
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

    /// The number of the stream, without the reserved bit.
    pub(super) fn stream_id(&self) -> u32 {
        u32::from_be_bytes(self.stream) & (u32::MAX >> 1)
    }
}
