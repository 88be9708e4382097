//! The rules of [`framing`], applied to a list of header fields.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use crate::message::FieldsView;
use crate::message::framing;
pub(crate) use crate::message::framing::{ContentLength, TransferCoding, has_option, list, number};

pub(crate) fn content_length(fields: FieldsView<'_>) -> ContentLength {
    framing::content_length(fields.get_all(&CONTENT_LENGTH))
}

pub(crate) fn coding(fields: FieldsView<'_>) -> TransferCoding {
    framing::transfer_coding(fields.get_all(&TRANSFER_ENCODING))
}

/// Size of the field lines on the wire, in bytes.
pub(crate) fn size(fields: FieldsView<'_>) -> usize {
    framing::wire_size(fields.iter())
}
