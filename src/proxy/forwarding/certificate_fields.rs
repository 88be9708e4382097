//! The X-SSL-Client-* fields that tell hosts of the client's certificate.
//!
//! From clients they are dropped as [spoofable](crate::spoofable_headers), whatever the listener asks for.

use http::HeaderName;
use pingora::Result;

use super::header_editor::HeaderEditor;
use crate::client_certificate::ClientVerification;

const VERIFY: &str = "X-SSL-Client-Verify";
/// The fields that describe a certificate, with the names that HTTP/1.1 writes.
const DETAILS: [(HeaderName, &str); 5] = [
    (
        HeaderName::from_static("x-ssl-client-subject-dn"),
        "X-SSL-Client-Subject-DN",
    ),
    (
        HeaderName::from_static("x-ssl-client-issuer-dn"),
        "X-SSL-Client-Issuer-DN",
    ),
    (
        HeaderName::from_static("x-ssl-client-serial"),
        "X-SSL-Client-Serial",
    ),
    (
        HeaderName::from_static("x-ssl-client-fingerprint"),
        "X-SSL-Client-Fingerprint",
    ),
    (
        HeaderName::from_static("x-ssl-client-not-after"),
        "X-SSL-Client-Not-After",
    ),
];

/// Sets the fields on a request to a host, also in place of those of a trusted proxy.
pub(super) fn set_certificate_fields(
    verification: &ClientVerification,
    request: &mut impl HeaderEditor,
) -> Result<()> {
    let certificate = match verification {
        ClientVerification::Missing => {
            for (name, _) in &DETAILS {
                request.remove(name);
            }
            return request.set(VERIFY, verification.verdict().as_bytes());
        }
        ClientVerification::Verified(certificate) => certificate,
    };
    let values = [
        &certificate.subject,
        &certificate.issuer,
        &certificate.serial,
        &certificate.fingerprint,
        &certificate.not_after,
    ];
    for ((_, written), value) in DETAILS.iter().zip(values) {
        request.set(written, value.as_bytes())?;
    }
    request.set(VERIFY, verification.verdict().as_bytes())
}
