//! [`framing`] over the fields of a head.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use crate::message::FieldsView;
use crate::message::framing;
pub(crate) use crate::message::framing::{ContentLength, TransferCoding, has_option, list, number};

/// What Content-Length says.
pub(crate) fn content_length(fields: FieldsView<'_>) -> ContentLength {
    framing::content_length(fields.get_all(&CONTENT_LENGTH))
}

/// What Transfer-Encoding says.
pub(crate) fn coding(fields: FieldsView<'_>) -> TransferCoding {
    framing::transfer_coding(fields.get_all(&TRANSFER_ENCODING))
}

/// The bytes of field lines as they stand on the wire.
pub(crate) fn size(fields: FieldsView<'_>) -> usize {
    framing::wire_size(fields.iter())
}
