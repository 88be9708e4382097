//! Encoders for the body of one response, as a stream.
//!
//! The levels are those at which each format is fast enough to run on the thread that serves the connection: a piece of
//! 64 KiB, the most that is read from a host at once, takes about a millisecond. The windows bound the memory of an open
//! response. `benches/compression.rs` measures both; docs/compression.md has the figures.

use std::fmt;
use std::io::{self, Write};

use brotli::CompressorWriter;
use flate2::{Compress, FlushCompress, Status};
use zstd::stream::raw::{CParameter, Encoder as ZstdEncoder, InBuffer, Operation, OutBuffer};

use crate::config::ContentCoding;

/// zlib's default is 6, which takes a quarter longer and saves less than 1%.
const GZIP_LEVEL: u32 = 5;
/// From 5 on brotli takes twice as long, and milliseconds before its first byte.
const BROTLI_LEVEL: u32 = 4;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;
/// The window of gzip, as a power of two: the largest one that DEFLATE has.
const GZIP_WINDOW: u8 = 15;
/// The largest windows of the others: bodies compress little better beyond, and an open response takes several MiB.
const BROTLI_WINDOW: u32 = 17;
const ZSTD_WINDOW: u32 = 18;
/// Bytes by which the output grows at once.
const STEP: usize = 4 << 10;

/// The encoder of one response.
pub struct Compressor {
    encoder: Encoder,
    /// Whether the encoder may hold back bytes that were written.
    has_unflushed: bool,
}

enum Encoder {
    Gzip(Compress),
    /// Boxed, because its state takes several KiB.
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static>),
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("has_unflushed", &self.has_unflushed)
            .finish_non_exhaustive()
    }
}

impl Compressor {
    /// An encoder for a body of `length` bytes, if that is known. A short body needs less memory.
    ///
    /// # Errors
    /// If zstd gets no memory.
    pub fn new(coding: ContentCoding, length: Option<u64>) -> io::Result<Self> {
        let encoder = match coding {
            ContentCoding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Encoder::Gzip(Compress::new_gzip(level, GZIP_WINDOW))
            }
            ContentCoding::Brotli => {
                let window = length.map_or(BROTLI_WINDOW, brotli_window);
                let writer = CompressorWriter::new(Vec::new(), STEP, BROTLI_LEVEL, window);
                Encoder::Brotli(Box::new(writer))
            }
            ContentCoding::Zstd => {
                let mut encoder = ZstdEncoder::new(ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW))?;
                encoder.set_pledged_src_size(length)?;
                Encoder::Zstd(encoder)
            }
        };
        Ok(Compressor {
            encoder,
            has_unflushed: false,
        })
    }

    /// Whether [`flush`](Self::flush) may have an effect.
    pub fn has_unflushed(&self) -> bool {
        self.has_unflushed
    }

    /// Compresses `data`. What is ready is appended to `out`; the encoder may hold back the rest.
    ///
    /// # Errors
    /// If the encoder fails, or if there is more data than was announced.
    pub fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.has_unflushed = true;
        match &mut self.encoder {
            Encoder::Gzip(encoder) => {
                deflate(encoder, data, FlushCompress::None, out)?;
            }
            Encoder::Brotli(encoder) => {
                encoder.write_all(data)?;
                out.append(encoder.get_mut());
            }
            Encoder::Zstd(encoder) => {
                let mut input = InBuffer::around(data);
                while input.pos() < data.len() {
                    into_vec(out, |out| encoder.run(&mut input, out))?;
                }
            }
        }
        Ok(())
    }

    /// Appends to `out` what was held back, so that the client can decode all that was written.
    ///
    /// # Errors
    /// If the encoder fails.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if !std::mem::take(&mut self.has_unflushed) {
            return Ok(());
        }
        match &mut self.encoder {
            Encoder::Gzip(encoder) => {
                deflate(encoder, &[], FlushCompress::Sync, out)?;
            }
            Encoder::Brotli(encoder) => {
                encoder.flush()?;
                out.append(encoder.get_mut());
            }
            Encoder::Zstd(encoder) => while into_vec(out, |out| encoder.flush(out))? > 0 {},
        }
        Ok(())
    }

    /// Appends the rest of the stream and its end to `out`.
    ///
    /// # Errors
    /// If the encoder fails, or if there was less data than was announced.
    pub fn finish(self, out: &mut Vec<u8>) -> io::Result<()> {
        match self.encoder {
            Encoder::Gzip(mut encoder) => {
                match deflate(&mut encoder, &[], FlushCompress::Finish, out)? {
                    Status::StreamEnd => Ok(()),
                    _ => Err(io::Error::other("the stream of gzip does not end")),
                }
            }
            Encoder::Brotli(encoder) => {
                out.append(&mut encoder.into_inner());
                Ok(())
            }
            Encoder::Zstd(mut encoder) => {
                while into_vec(out, |out| encoder.finish(out, true))? > 0 {}
                Ok(())
            }
        }
    }
}

/// The smallest window for a body of this length, as a power of two.
fn brotli_window(length: u64) -> u32 {
    /// The smallest one of the format.
    const MIN: u32 = 10;
    let bits = u64::BITS - length.leading_zeros();
    bits.clamp(MIN, BROTLI_WINDOW)
}

/// Runs DEFLATE until it has taken all of `data` and has nothing more to say.
fn deflate(
    encoder: &mut Compress,
    data: &[u8],
    flush: FlushCompress,
    out: &mut Vec<u8>,
) -> io::Result<Status> {
    let begin = encoder.total_in();
    loop {
        out.reserve(STEP);
        let taken = usize::try_from(encoder.total_in() - begin).unwrap_or(data.len());
        let status = encoder.compress_vec(&data[taken..], out, flush)?;
        // Space is left only if nothing waits for it.
        let taken = encoder.total_in() - begin;
        if status == Status::StreamEnd || (taken == data.len() as u64 && out.len() < out.capacity())
        {
            return Ok(status);
        }
    }
}

/// Runs a step of zstd with some free space at the end of `out`.
fn into_vec<T>(
    out: &mut Vec<u8>,
    step: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<T>,
) -> io::Result<T> {
    out.reserve(STEP);
    let end = out.len();
    step(&mut OutBuffer::around_pos(out, end))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    const CODINGS: [ContentCoding; 3] = [
        ContentCoding::Zstd,
        ContentCoding::Brotli,
        ContentCoding::Gzip,
    ];

    fn decode(coding: ContentCoding, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoded = Vec::new();
        match coding {
            ContentCoding::Gzip => {
                flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded)?;
            }
            ContentCoding::Brotli => {
                brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded)?;
            }
            ContentCoding::Zstd => {
                zstd::stream::read::Decoder::new(bytes)?.read_to_end(&mut decoded)?;
            }
        }
        Ok(decoded)
    }

    /// What decodes from the beginning of a stream, whether or not it ends there.
    fn decode_prefix(coding: ContentCoding, bytes: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        let mut reader: Box<dyn Read> = match coding {
            ContentCoding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
            ContentCoding::Brotli => Box::new(brotli::Decompressor::new(bytes, 4096)),
            ContentCoding::Zstd => {
                Box::new(zstd::stream::read::Decoder::new(bytes).expect("a decoder"))
            }
        };
        let mut piece = [0; 1_024];
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            decoded.extend_from_slice(&piece[..count]);
        }
        decoded
    }

    /// Data that is as hard to compress as `shape` says: the same byte, words, or noise.
    fn data(shape: u8, length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let bytes = std::iter::from_fn(|| {
            Some(match shape {
                0 => vec![b'a'],
                1 => format!("<li class=\"{}\">", next() % 50).into_bytes(),
                _ => next().to_le_bytes().to_vec(),
            })
        });
        Vec::from_iter(bytes.flatten().take(length))
    }

    #[test]
    fn an_empty_body_is_a_valid_stream() {
        for coding in CODINGS {
            for length in [None, Some(0)] {
                let mut out = Vec::new();
                let mut compressor = Compressor::new(coding, length).expect("an encoder");
                compressor.write(&[], &mut out).expect("written");
                compressor.flush(&mut out).expect("flushed");
                assert!(out.is_empty());
                compressor.finish(&mut out).expect("finished");
                assert_eq!(decode(coding, &out).expect("a whole stream"), b"");
            }
        }
    }

    #[test]
    fn large_bodies_become_smaller_and_stay_the_same() {
        let text = data(1, 3 << 20, 7);
        for coding in CODINGS {
            let mut out = Vec::new();
            let mut compressor = Compressor::new(coding, None).expect("an encoder");
            for piece in text.chunks(64 << 10) {
                compressor.write(piece, &mut out).expect("written");
            }
            assert!(compressor.has_unflushed());
            compressor.finish(&mut out).expect("finished");
            assert!(out.len() < text.len() / 5, "{coding:?}: {}", out.len());
            assert!(decode(coding, &out).expect("a whole stream") == text);
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_not_whole() {
        let text = data(1, 10_000, 7);
        for coding in CODINGS {
            let mut out = Vec::new();
            let mut compressor = Compressor::new(coding, None).expect("an encoder");
            compressor.write(&text, &mut out).expect("written");
            compressor.flush(&mut out).expect("flushed");
            assert!(decode(coding, &out).is_err(), "{coding:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_split_decodes_to_the_same(
            shape in 0_u8..3,
            length in prop_oneof![0_usize..300, 0_usize..200_000],
            seed in any::<u64>(),
            splits in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..8),
            is_announced in any::<bool>(),
        ) {
            let body = data(shape, length, seed);
            let mut splits = Vec::from_iter(splits.iter().map(|(at, flush)| (at.index(length + 1), *flush)));
            splits.sort_unstable();
            for coding in CODINGS {
                let announced = is_announced.then_some(length as u64);
                let mut compressor = Compressor::new(coding, announced).expect("an encoder");
                let (mut out, mut begin) = (Vec::new(), 0);
                for &(at, flush) in &splits {
                    compressor.write(&body[begin..at], &mut out).expect("written");
                    begin = at;
                    if flush {
                        compressor.flush(&mut out).expect("flushed");
                        prop_assert!(!compressor.has_unflushed());
                        prop_assert!(decode_prefix(coding, &out) == body[..at], "{:?} at {}", coding, at);
                    }
                }
                compressor.write(&body[begin..], &mut out).expect("written");
                compressor.finish(&mut out).expect("finished");
                prop_assert!(decode(coding, &out).expect("a whole stream") == body, "{:?}", coding);
                prop_assert!(out.len() <= body.len() + body.len() / 8 + 1_024);
            }
        }
    }
}
