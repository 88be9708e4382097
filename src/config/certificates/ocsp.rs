//! An OCSP response (RFC 6960): what an authority says about the revocation of a certificate, for clients that ask for it in
//! the handshake. It comes from a file, which another program renews.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{ASN1Time, FromDer};

use super::renewal::Validity;
use crate::config::der::{ENUMERATED, IDENTIFIER, INTEGER, OCTETS, SEQUENCE, take};
use crate::config::environment::Environment;
use crate::config::pem;
use crate::config::warnings::{date, parsed};

/// The fields of a sequence that are numbered.
const FIELD_0: u8 = 0xa0;
const FIELD_1: u8 = 0xa1;
const FIELD_2: u8 = 0xa2;

const TIME: u8 = 0x18;

/// The certificate is not revoked.
const GOOD: u8 = 0x80;

/// The kind of all responses: id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x30\x01\x01";

/// Why an authority has not answered, by the number of the status.
const FAILURES: [(u8, &str); 5] = [
    (1, "malformedRequest"),
    (2, "internalError"),
    (3, "tryLater"),
    (5, "sigRequired"),
    (6, "unauthorized"),
];

/// A response that says that a certificate is good. Its signature is left to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspResponse {
    /// The file that it is from.
    pub file: PathBuf,
    /// Its content.
    pub der: Vec<u8>,
    /// When clients accept it.
    pub validity: Validity,
}

/// What is wrong with the file of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OcspProblem {
    /// It cannot be read, or is something else.
    NoResponse(String),
    /// Clients could do nothing with the response, or would refuse the certificate.
    Unusable(String),
}

impl fmt::Display for OcspProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (OcspProblem::NoResponse(text) | OcspProblem::Unusable(text)) = self;
        f.write_str(text)
    }
}

impl OcspResponse {
    /// Reads the response about `certificate`.
    pub(super) fn read(
        file: &Path,
        certificate: &CertificateDer<'_>,
        environment: &dyn Environment,
    ) -> Result<Self, OcspProblem> {
        let der = pem::read(file, environment).map_err(OcspProblem::NoResponse)?;
        let shown = file.display();
        let Some(content) = content(&der) else {
            return Err(OcspProblem::NoResponse(format!(
                "`{shown}` is not an OCSP response in DER form, as `openssl ocsp -respout FILE` writes it"
            )));
        };
        let unusable = |reason: &dyn fmt::Display| {
            OcspProblem::Unusable(format!("`{shown}` is not stapled: {reason}"))
        };
        let answers = match content {
            Content::Failure(status) => {
                let known = FAILURES.iter().find(|(known, _)| *known == status);
                let name = known.map_or("an unknown status", |(_, name)| name);
                return Err(unusable(&format_args!(
                    "the authority has answered with {name}"
                )));
            }
            Content::Answers(answers) => answers,
        };
        let serial = parsed(certificate).map(|certificate| certificate.raw_serial().to_vec());
        let mut answers = answers.into_iter();
        let answer = answers
            .find(|answer| serial.as_deref() == Some(answer.serial))
            .ok_or_else(|| unusable(&"it is about another certificate"))?;
        if !answer.is_good {
            return Err(unusable(
                &"it says that the certificate is revoked or unknown",
            ));
        }
        let validity = answer.validity;
        Ok(OcspResponse {
            file: file.to_owned(),
            validity,
            der,
        })
    }

    /// Why it is not stapled at this time.
    pub(crate) fn date_fault(&self, now: i64) -> Option<String> {
        let Validity { from, until } = self.validity;
        let file = self.file.display();
        if now > until {
            let until = date(until);
            Some(format!("`{file}` is not stapled: it expired at {until}"))
        } else if now < from {
            let from = date(from);
            Some(format!(
                "`{file}` is not stapled: it is not valid before {from}"
            ))
        } else {
            None
        }
    }

    /// The file and how long it is current, for a line in the log.
    pub(crate) fn describe(&self) -> String {
        let file = self.file.display();
        match self.validity.until {
            i64::MAX => format!("`{file}`"),
            until => format!("`{file}`, current until {}", date(until)),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Content<'a> {
    /// The status of an authority that does not answer.
    Failure(u8),
    Answers(Vec<Answer<'a>>),
}

/// What is said about one certificate.
#[derive(Debug, PartialEq, Eq)]
struct Answer<'a> {
    serial: &'a [u8],
    is_good: bool,
    validity: Validity,
}

/// The parts of an OCSPResponse that matter here. `None`: it is something else.
fn content(der: &[u8]) -> Option<Content<'_>> {
    let (response, rest) = take(SEQUENCE, der)?;
    let (status, response) = take(ENUMERATED, response)?;
    let &[status] = status else {
        return None;
    };
    if !rest.is_empty() {
        return None;
    }
    if status != 0 {
        return Some(Content::Failure(status));
    }
    let (bytes, _) = take(FIELD_0, response)?;
    let (bytes, _) = take(SEQUENCE, bytes)?;
    let (kind, bytes) = take(IDENTIFIER, bytes)?;
    let (basic, _) = take(OCTETS, bytes).filter(|_| kind == BASIC)?;
    let (basic, _) = take(SEQUENCE, basic)?;
    let (data, _signature) = take(SEQUENCE, basic)?;
    let data = take(FIELD_0, data).map_or(data, |(_version, rest)| rest);
    let (_responder, data) = take(FIELD_1, data).or_else(|| take(FIELD_2, data))?;
    let (_produced, data) = take(TIME, data)?;
    let (mut rest, _extensions) = take(SEQUENCE, data)?;
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let (single, others) = take(SEQUENCE, rest)?;
        answers.push(answer(single)?);
        rest = others;
    }
    Some(Content::Answers(answers))
}

/// A SingleResponse.
fn answer(single: &[u8]) -> Option<Answer<'_>> {
    let (id, single) = take(SEQUENCE, single)?;
    let (_hash_algorithm, id) = take(SEQUENCE, id)?;
    let (_issuer_name, id) = take(OCTETS, id)?;
    let (_issuer_key, id) = take(OCTETS, id)?;
    let (serial, _) = take(INTEGER, id)?;
    let &status = single.first()?;
    let (_, single) = take(status, single)?;
    let (single, from) = time(single)?;
    let until = match take(FIELD_0, single) {
        Some((until, _)) => time(until)?.1,
        // There may be newer information at any time, so this is never too old.
        None => i64::MAX,
    };
    Some(Answer {
        serial,
        is_good: status == GOOD,
        validity: Validity { from, until },
    })
}

/// What follows a time, and the time in Unix seconds.
fn time(input: &[u8]) -> Option<(&[u8], i64)> {
    let (rest, time) = ASN1Time::from_der(input).ok()?;
    Some((rest, time.timestamp()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut der = vec![tag, 0x82, (length >> 8) as u8, length as u8];
        der.extend(content);
        der
    }

    fn single(serial: &[u8], status: u8, until: Option<&str>) -> Vec<u8> {
        let id = [
            element(SEQUENCE, b""),
            element(OCTETS, b"name"),
            element(OCTETS, b"key"),
            element(INTEGER, serial),
        ];
        let until = until.map(|until| element(FIELD_0, &element(TIME, until.as_bytes())));
        let parts = [
            element(SEQUENCE, &id.concat()),
            element(status, b""),
            element(TIME, b"20300101000000Z"),
            until.unwrap_or_default(),
        ];
        element(SEQUENCE, &parts.concat())
    }

    fn response(singles: &[Vec<u8>]) -> Vec<u8> {
        let data = [
            element(FIELD_1, b"by name"),
            element(TIME, b"20300101000000Z"),
            element(SEQUENCE, &singles.concat()),
        ];
        let basic = element(SEQUENCE, &element(SEQUENCE, &data.concat()));
        let bytes = [element(IDENTIFIER, BASIC), element(OCTETS, &basic)].concat();
        let parts = [
            element(ENUMERATED, &[0]),
            element(FIELD_0, &element(SEQUENCE, &bytes)),
        ];
        element(SEQUENCE, &parts.concat())
    }

    #[test]
    fn a_response_tells_of_each_certificate() {
        let singles = [
            single(&[1], GOOD, Some("20300102000000Z")),
            single(&[2], FIELD_1, None),
        ];
        let der = response(&singles);
        // 2030-01-01.
        let from = 1_893_456_000;
        let expected = [
            Answer {
                serial: &[1],
                is_good: true,
                validity: Validity {
                    from,
                    until: from + 24 * 60 * 60,
                },
            },
            Answer {
                serial: &[2],
                is_good: false,
                validity: Validity {
                    from,
                    until: i64::MAX,
                },
            },
        ];
        assert_eq!(content(&der), Some(Content::Answers(expected.into())));
        let later = element(SEQUENCE, &element(ENUMERATED, &[3]));
        assert_eq!(content(&later), Some(Content::Failure(3)));
        for length in 0..der.len() {
            assert_eq!(content(&der[..length]), None);
        }
        assert_eq!(content(&[der, vec![0]].concat()), None);
    }

    proptest! {
        #[test]
        fn no_content_panics(at in any::<prop::sample::Index>(), with: u8, any: Vec<u8>) {
            content(&any);
            let mut der = response(&[single(&[1], GOOD, Some("20300102000000Z"))]);
            let at = at.index(der.len());
            der[at] = with;
            content(&der);
        }
    }
}
