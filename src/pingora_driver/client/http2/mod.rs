//! A client's HTTP/2 connection: a connection loop around the `h2` crate, and the session of a stream for Pingora.

mod connection;
mod connection_lifetime;
mod extended_connect;
mod frame;
mod h2_fields;
mod h2_frames;
mod h2_stream;
mod hpack;
mod huffman;
mod idle_frame_budget;
mod odd_path;
mod open_streams;
mod opened_stream;
mod path_rewriter;
mod stream_server;
mod upload_windows;

pub(super) use connection::H2Connection;
pub(super) use h2_frames::{H2Frames, ReadOutcome};
pub(super) use h2_stream::H2Stream;
pub(super) use path_rewriter::PathRewriter;
pub(super) use stream_server::StreamServer;
