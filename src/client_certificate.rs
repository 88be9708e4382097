//! The certificate that a client has shown in its TLS handshake, and how hosts learn of it.

use std::fmt::Write as _;
use std::sync::Arc;

use pingora::protocols::tls::SslDigest;
use ring::digest::{SHA256, digest};
use x509_parser::der_parser::asn1_rs::ToDer;
use x509_parser::der_parser::oid::Oid;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The names of attributes in text, by object identifier: those of RFC 2253 and OpenSSL.
const ATTRIBUTES: [(&str, &str); 14] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// What a listener that asks for certificates knows about a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientVerification {
    /// The client has shown no certificate.
    Missing,
    /// The client has proved that it is the subject of a certificate, which an authority of the listener vouches for.
    Verified(ClientCertificate),
}

/// A verified certificate, as hosts get it. All texts but the common name are visible ASCII and spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The distinguished name of the client (RFC 2253).
    pub subject: String,
    /// The distinguished name of the authority (RFC 2253).
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// The SHA-256 of the certificate in hexadecimal.
    pub fingerprint: String,
    /// When it expires (RFC 3339).
    pub not_after: String,
    /// The first common name of the client, as it stands in the certificate.
    pub common_name: Option<String>,
}

impl ClientVerification {
    /// The outcome in a word: `SUCCESS` or `NONE`.
    pub(crate) fn verdict(&self) -> &'static str {
        match self {
            ClientVerification::Missing => "NONE",
            ClientVerification::Verified(_) => "SUCCESS",
        }
    }

    /// The distinguished name of the client; `None` without a certificate.
    pub(crate) fn subject(&self) -> Option<&str> {
        match self {
            ClientVerification::Missing => None,
            ClientVerification::Verified(certificate) => Some(&certificate.subject),
        }
    }

    /// That of the connection with this digest. `None`: its listener asks for no certificate.
    pub(crate) fn of(digest: &SslDigest) -> Option<&Arc<Self>> {
        digest.extension.get::<Arc<Self>>()
    }
}

impl ClientCertificate {
    /// Reads a certificate in DER. `None` if it is malformed.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let not_after = certificate.validity.not_after.timestamp();
        let not_after = jiff::Timestamp::from_second(not_after).ok()?;
        let common_name = certificate.subject().iter_common_name().next();
        let serial = match certificate.raw_serial() {
            // It marks a positive number.
            [0, rest @ ..] if !rest.is_empty() => rest,
            serial => serial,
        };
        Some(ClientCertificate {
            subject: distinguished_name(certificate.subject()),
            issuer: distinguished_name(certificate.issuer()),
            serial: hex(serial).to_ascii_uppercase(),
            fingerprint: hex(digest(&SHA256, der).as_ref()),
            not_after: not_after.to_string(),
            common_name: common_name
                .and_then(|name| name.as_str().ok())
                .map(str::to_owned),
        })
    }
}

/// A name in the form of RFC 2253: the most specific attribute first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts = Vec::from_iter(name.iter_rdn());
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        for (index, attribute) in part.iter().enumerate() {
            match index {
                0 if text.is_empty() => {}
                0 => text.push(','),
                _ => text.push('+'),
            }
            write_attribute(&mut text, attribute);
        }
    }
    text
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid: &Oid<'_> = attribute.attr_type();
    let oid = oid.to_id_string();
    let known = ATTRIBUTES.iter().find(|(known, _)| *known == oid);
    let name = known.map_or(oid.as_str(), |(_, name)| name);
    text.push_str(name);
    text.push('=');
    match attribute.as_str() {
        Ok(value) if known.is_some() => escape(text, value),
        // What is no text, or has a type that readers do not know.
        _ => {
            let value = attribute.attr_value().to_der_vec().unwrap_or_default();
            text.push('#');
            text.push_str(&hex(&value));
        }
    }
}

/// Writes a value so that no character of it can be taken for the structure of the name, and none is outside of visible
/// ASCII.
fn escape(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        let is_at_edge = index == 0 || index == last;
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b'=' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if is_at_edge => text.push_str("\\ "),
            b'#' if index == 0 => text.push_str("\\#"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                text.push('\\');
                push_hex(text, byte);
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for &byte in bytes {
        push_hex(&mut text, byte);
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{byte:02x}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SerialNumber};

    use super::*;

    fn parsed(name: DistinguishedName) -> ClientCertificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name;
        params.serial_number = Some(SerialNumber::from_slice(&[0xAB, 0x01]));
        params.not_after = rcgen::date_time_ymd(2030, 1, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        ClientCertificate::parse(certificate.der()).unwrap()
    }

    #[test]
    fn a_certificate_is_described_as_openssl_does() {
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, "DE");
        name.push(DnType::OrganizationName, "A, B");
        name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "x");
        name.push(DnType::CommonName, "#Zoë \"+\" \r\nX: 1 ");
        let certificate = parsed(name);
        assert_eq!(
            certificate.subject,
            "CN=\\#Zo\\c3\\ab \\\"\\+\\\" \\0d\\0aX: 1\\ ,1.2.3.4=#0c0178,O=A\\, B,C=DE"
        );
        assert_eq!(certificate.issuer, certificate.subject);
        assert_eq!(certificate.serial, "AB01");
        assert_eq!(certificate.not_after, "2030-01-31T00:00:00Z");
        assert_eq!(certificate.fingerprint.len(), 64);
        assert_eq!(ClientCertificate::parse(b"0"), None);
    }

    #[test]
    fn a_value_of_another_type_is_shown_in_hexadecimal() {
        let mut name = DistinguishedName::new();
        let value = DnValue::BmpString("CN".try_into().unwrap());
        name.push(DnType::CommonName, value);
        assert_eq!(parsed(name).subject, "CN=#1e040043004e");
    }

    proptest! {
        #[test]
        fn no_value_ends_its_attribute(value in any::<String>()) {
            let mut text = String::new();
            escape(&mut text, &value);
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let mut bytes = text.bytes();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\\' => prop_assert!(bytes.next().is_some()),
                    _ => prop_assert!(!b",+\"<>;=".contains(&byte), "{text}"),
                }
            }
        }
    }
}
