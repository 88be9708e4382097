//! A client's HTTP/2 connection: a connection loop around the `h2` crate and Pingora's session of a stream.

mod connection;
mod h2_fields;
mod h2_frames;
mod h2_stream;
mod hpack;
mod huffman;
mod path_rewriter;
mod upload_windows;

pub(super) use connection::H2Connection;
pub(super) use h2_frames::{H2Frames, ReadOutcome};
pub(super) use h2_stream::H2Stream;
pub(super) use path_rewriter::PathRewriter;
pub(crate) use upload_windows::UPLOAD_WINDOW_BUDGET;
