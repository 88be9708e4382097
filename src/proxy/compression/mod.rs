//! Compression of responses: which are compressed, with which content coding, and what changes in their heads.
//!
//! Both drivers call `RequestContext::compress_response` once the head of a response is as the client would get it
//! without compression, and pass the body through `RequestContext::compressor`.

mod accept_encoding;
mod compressor;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, VARY,
};
use http::{Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use super::context::RequestContext;
use super::forwarding::header_editor::HeaderEditor;
use crate::config::{Compression, ContentCoding};
use crate::message::framing::{has_option, list};
use crate::message::{FieldsView, RequestView};

pub use compressor::Compressor;

/// Digests of a body as it is now: it must not change.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// A response's head as the client gets it, with the changes so far.
pub(crate) trait ResponseHead {
    /// Makes further changes.
    type Editor: HeaderEditor;

    /// The values of all fields with this name.
    fn values<'a>(&'a self, name: &'a HeaderName) -> Vec<&'a [u8]>;

    fn editor(&mut self) -> &mut Self::Editor;
}

impl ResponseHead for ResponseHeader {
    type Editor = Self;

    fn values<'a>(&'a self, name: &'a HeaderName) -> Vec<&'a [u8]> {
        Vec::from_iter(FieldsView::from(&self.headers).get_all(name))
    }

    fn editor(&mut self) -> &mut Self {
        self
    }
}

/// What matters for compression beside the fields of a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseFacts {
    pub(crate) status: StatusCode,
    /// Bytes of the body, if they are known from Content-Length; to HEAD, those that GET would get.
    pub(crate) length: Option<u64>,
}

impl RequestContext {
    /// Changes the head of a host's response for compression, if the route has it and the response is of such a kind.
    /// Returns what becomes the [`compressor`](Self::compressor). `None`: the body stays as it is.
    ///
    /// # Errors
    /// If a changed field has an invalid value.
    pub(crate) fn compress_response(
        &self,
        request: RequestView<'_>,
        facts: ResponseFacts,
        head: &mut impl ResponseHead,
    ) -> Result<Option<Box<Compressor>>> {
        match &self.limits().compression {
            Some(compression) => compress_head(compression, request, facts, head),
            None => Ok(None),
        }
    }

    /// Appends compressed bytes of `data` to `out`.
    ///
    /// # Errors
    /// If the encoder fails; the response must end incomplete then.
    pub(crate) fn compress(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match &mut self.compressor {
            Some(compressor) => compressor.write(data, out).map_err(failed),
            None => Ok(()),
        }
    }

    /// Appends to `out` what the encoder holds back.
    ///
    /// # Errors
    /// As [`compress`](Self::compress).
    pub(crate) fn flush_compression(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match &mut self.compressor {
            Some(compressor) => compressor.flush(out).map_err(failed),
            None => Ok(()),
        }
    }

    /// Appends the end of the compressed body to `out`.
    ///
    /// # Errors
    /// As [`compress`](Self::compress).
    pub(crate) fn finish_compression(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match self.compressor.take() {
            Some(compressor) => compressor.finish(out).map_err(failed),
            None => Ok(()),
        }
    }
}

fn failed(error: std::io::Error) -> Box<Error> {
    Error::because(
        ErrorType::InternalError,
        "the response cannot be compressed",
        error,
    )
}

/// Decides and changes the head; returns the encoder of the body, if the response has one.
fn compress_head(
    compression: &Compression,
    request: RequestView<'_>,
    facts: ResponseFacts,
    head: &mut impl ResponseHead,
) -> Result<Option<Box<Compressor>>> {
    if facts.status == StatusCode::NOT_MODIFIED {
        not_modified(compression, request, head)?;
        return Ok(None);
    }
    if !is_compressible(compression, facts, head) {
        return Ok(None);
    }
    add_vary(head)?;
    let Some(coding) = select_coding(compression, request) else {
        return Ok(None);
    };
    let is_head = *request.method == Method::HEAD;
    let compressor = match is_head {
        true => None,
        false => match Compressor::new(coding, facts.length) {
            Ok(compressor) => Some(Box::new(compressor)),
            Err(error) => {
                log::warn!("a response is not compressed: {error}");
                return Ok(None);
            }
        },
    };
    // `remove` forgets what the route has done with them.
    let editor = head.editor();
    editor.remove(&CONTENT_ENCODING);
    editor.append("Content-Encoding", coding.name().as_bytes())?;
    editor.remove(&CONTENT_LENGTH);
    editor.remove(&ACCEPT_RANGES);
    weaken_etag(head)?;
    Ok(compressor)
}

/// Whether clients that ask for it get this response compressed.
fn is_compressible(
    compression: &Compression,
    facts: ResponseFacts,
    head: &impl ResponseHead,
) -> bool {
    let has_whole_body = !facts.status.is_informational()
        && !matches!(
            facts.status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT
        );
    let is_long = facts
        .length
        .is_none_or(|length| length > 0 && length >= compression.min_size);
    has_whole_body
        && is_long
        && has_listed_type(compression, head)
        && list(head.values(&CONTENT_ENCODING))
            .all(|coding| coding.eq_ignore_ascii_case(b"identity"))
        && head.values(&CONTENT_RANGE).is_empty()
        && !has_option(head.values(&CACHE_CONTROL), b"no-transform")
        && DIGESTS.iter().all(|name| head.values(name).is_empty())
}

fn has_listed_type(compression: &Compression, head: &impl ResponseHead) -> bool {
    let values = head.values(&CONTENT_TYPE);
    // Recipients differ in which of several they take.
    let &[value] = values.as_slice() else {
        return false;
    };
    let end = value.iter().position(|&byte| byte == b';');
    let essence = value[..end.unwrap_or(value.len())].trim_ascii();
    !is_grpc(essence)
        && compression
            .types
            .iter()
            .any(|pattern| pattern.matches(essence))
}

/// Messages of gRPC have a coding of their own, and its clients know no Content-Encoding.
fn is_grpc(essence: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    essence.len() >= GRPC.len()
        && essence[..GRPC.len()].eq_ignore_ascii_case(GRPC)
        && matches!(essence.get(GRPC.len()), None | Some(b'+'))
}

/// The coding that this client gets. `None`: it gets the response as it is.
fn select_coding(compression: &Compression, request: RequestView<'_>) -> Option<ContentCoding> {
    // HTTP/1.0 has no chunks, so the end of the connection would have to mark the end of the body.
    let is_modern = request.version != Version::HTTP_10;
    if !is_modern || has_option(request.get_all(&CACHE_CONTROL), b"no-transform") {
        return None;
    }
    accept_encoding::select(request.get_all(&ACCEPT_ENCODING), &compression.algorithms)
}

/// A response without a body to a client that has one: its fields are those of the response that the client has. Hosts
/// leave out most of them, so a weak validator of the client tells whether it was compressed.
fn not_modified(
    compression: &Compression,
    request: RequestView<'_>,
    head: &mut impl ResponseHead,
) -> Result<()> {
    let weak_form = head.values(&ETAG).first().and_then(|tag| weak(tag));
    let has_weak = weak_form.is_some_and(|weak| {
        let mut tags = list(request.get_all(&IF_NONE_MATCH));
        tags.any(|tag| tag == weak)
    });
    if has_weak {
        weaken_etag(head)?;
    }
    if has_weak || has_listed_type(compression, head) {
        add_vary(head)?;
    }
    Ok(())
}

/// Adds `Vary: Accept-Encoding`, unless Vary says so already.
fn add_vary(head: &mut impl ResponseHead) -> Result<()> {
    let known = list(head.values(&VARY))
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str().as_bytes()));
    match known {
        true => Ok(()),
        false => head.editor().append("Vary", b"Accept-Encoding"),
    }
}

/// The weak form of a strong entity tag. `None`: it is weak already, or malformed.
fn weak(tag: &[u8]) -> Option<Vec<u8>> {
    let is_strong = tag.len() >= 2 && tag.starts_with(b"\"") && tag.ends_with(b"\"");
    is_strong.then(|| [b"W/", tag].concat())
}

/// A strong validator promises the same octets, which two codings do not have (RFC 9110, 8.8.1). A malformed one is
/// removed, because clients may take it for a strong one.
fn weaken_etag(head: &mut impl ResponseHead) -> Result<()> {
    let values = head.values(&ETAG);
    let Some(&tag) = values.first() else {
        return Ok(());
    };
    if tag.starts_with(b"W/") {
        return Ok(());
    }
    let weak = weak(tag);
    let editor = head.editor();
    editor.remove(&ETAG);
    match weak {
        Some(weak) => editor.append("ETag", &weak),
        None => Ok(()),
    }
}
