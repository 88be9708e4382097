//! The sections of a PEM file. Each is either understood or an error, so that none is left out because of its position.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::hints::quote;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Accepts base64 with and without padding, which some tools leave out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A section between `-----BEGIN LABEL-----` and `-----END LABEL-----`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    /// The line that it begins on, counted from 1.
    pub(super) line: usize,
    /// Whether its header fields say that it is encrypted (RFC 1421, OpenSSL's own keys).
    pub(super) is_encrypted: bool,
    /// Empty if it is encrypted.
    pub(super) der: Vec<u8>,
}

/// Every section of `text`, in order. Text between sections is ignored, and a section may begin within a line.
///
/// # Errors
/// A section is incomplete or not base64, or a line looks like the beginning or the end of one.
pub(super) fn blocks(text: &str) -> Result<Vec<Block<'_>>, String> {
    let mut blocks = Vec::new();
    let mut reader = PemReader {
        rest: text,
        line: 1,
    };
    while let Some(begin) = reader.rest.find(BEGIN) {
        let first = reader.line;
        assert_no_section(reader.skip(begin), first)?;
        let line = reader.line;
        reader.skip(BEGIN.len());
        let label = reader.label().ok_or_else(|| {
            let start = reader.rest.lines().next().unwrap_or_default();
            format!(
                "{} on line {line} is cut off",
                quote(&format!("{BEGIN}{start}"))
            )
        })?;
        let end = reader.rest.find(END);
        let body = &reader.rest[..end.unwrap_or(reader.rest.len())];
        if end.is_none() || body.contains(BEGIN) {
            return Err(format!(
                "the section {} has no end (it begins on line {line})",
                quote(label)
            ));
        }
        reader.skip(body.len());
        let end_line = reader.line;
        reader.skip(END.len());
        let ended = reader.label();
        if ended != Some(label) {
            let shown = ended.map_or_else(
                || "is cut off".to_owned(),
                |ended| format!("is that of {}", quote(ended)),
            );
            return Err(format!(
                "the section {} begins on line {line}, and the end on line {end_line} {shown}",
                quote(label)
            ));
        }
        let (is_encrypted, body) = without_headers(body);
        let der = match is_encrypted {
            true => Vec::new(),
            false => decoded(body).ok_or_else(|| {
                format!("the section {} on line {line} is not base64", quote(label))
            })?,
        };
        blocks.push(Block {
            label,
            line,
            is_encrypted,
            der,
        });
    }
    assert_no_section(reader.rest, reader.line)?;
    Ok(blocks)
}

/// The text that is not read yet, and the line that it begins on.
struct PemReader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> PemReader<'a> {
    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
        skipped
    }

    /// The label here, up to the dashes after it on the same line.
    fn label(&mut self) -> Option<&'a str> {
        let length = self.rest.find(DASHES)?;
        let label = &self.rest[..length];
        if label.contains(['\n', '\r']) {
            return None;
        }
        self.skip(length + DASHES.len());
        Some(label)
    }
}

/// Fails if `text`, which begins on line `first`, holds half of a section or a line that resembles one.
fn assert_no_section(text: &str, first: usize) -> Result<(), String> {
    let is_dash = |c: &char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let is_marker = |line: &str| {
        let dashes = line.trim_start().chars().take_while(is_dash).count();
        dashes >= 2 && (line.contains("BEGIN ") || line.contains("END "))
    };
    for (number, line) in (first..).zip(text.split('\n')) {
        let shown = quote(line.trim());
        if line.contains(END) {
            return Err(format!(
                "{shown} on line {number} ends a section that has no beginning"
            ));
        }
        if is_marker(line) {
            return Err(format!(
                "{shown} on line {number} has not the five dashes of a section"
            ));
        }
    }
    Ok(())
}

/// Whether header fields of a section say that it is encrypted, and what follows them.
fn without_headers(body: &str) -> (bool, &str) {
    let mut is_encrypted = false;
    let mut rest = body.trim_start();
    // Base64 has no colon. A header field that continues on a second line ends with a comma, or the line begins with a space.
    while let Some((line, after)) = rest.split_once('\n')
        && line.contains(':')
    {
        is_encrypted |= line.starts_with("Proc-Type:") && line.contains("ENCRYPTED");
        rest = after.trim_start();
    }
    (is_encrypted, rest)
}

fn decoded(body: &str) -> Option<Vec<u8>> {
    let mut bytes = body.as_bytes().to_vec();
    bytes.retain(|byte| !byte.is_ascii_whitespace());
    BASE64.decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(text: &str) -> Vec<(String, usize, Vec<u8>)> {
        let blocks = blocks(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let all = blocks.into_iter();
        all.map(|block| (block.label.to_owned(), block.line, block.der))
            .collect()
    }

    #[test]
    fn sections_are_found_in_any_layout() {
        let two = [
            ("A".to_owned(), 1, vec![0; 3]),
            ("B C".to_owned(), 4, vec![4]),
        ];
        let text = "-----BEGIN A-----\nAAAA\n-----END A-----\n-----BEGIN B C-----\nBA==\n-----END B C-----\n";
        assert_eq!(sections(text), two);
        assert_eq!(sections(&text.replace('\n', "\r\n")), two);
        assert_eq!(sections(&text.replace('\n', " \t\n")), two);
        assert_eq!(sections(&text.replace('\n', "\n   ")), two);
        assert_eq!(sections(text.trim_end()), two);
        assert_eq!(sections(&text.replace("BA==", "BA")), two);
        let labels =
            |text: &str| Vec::from_iter(sections(text).into_iter().map(|(label, ..)| label));
        assert_eq!(
            labels(&text.replace("-----\n-----BEGIN", "----------BEGIN")),
            ["A", "B C"]
        );
        assert_eq!(
            labels(&text.replace("-----\n-----BEGIN", "-----  -----BEGIN")),
            ["A", "B C"]
        );
        assert_eq!(labels(&text.replace('\n', "")), ["A", "B C"]);
        let comment = "Certificate:\n    Data: -- BEGIN\nsubject=CN = a\n---\n";
        assert_eq!(labels(&format!("{comment}{text}{comment}")), ["A", "B C"]);
        assert_eq!(sections(""), []);
    }

    #[test]
    fn encrypted_sections_are_known_by_their_headers() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert!(blocks(text).unwrap()[0].is_encrypted);
        let clear = text.replace("4,ENCRYPTED", "4,CLEAR");
        let clear = blocks(&clear).unwrap();
        assert!(!clear[0].is_encrypted);
        assert_eq!(clear[0].der, [0; 3]);
    }

    #[test]
    fn truncated_sections_are_errors_with_their_line() {
        for (text, expected) in [
            (
                "\n-----BEGIN A----\nAAAA\n-----END A-----\n",
                "`-----BEGIN A----` on line 2 is cut off",
            ),
            ("-----BEGIN A", "`-----BEGIN A` on line 1 is cut off"),
            (
                "-----BEGIN A-----\nAAAA\n",
                "the section `A` has no end (it begins on line 1)",
            ),
            (
                "-----BEGIN A-----\nAAAA\n-----BEGIN A-----\nAAAA\n-----END A-----\n",
                "the section `A` has no end (it begins on line 1)",
            ),
            (
                "-----BEGIN A-----\nAAAA\n-----END B-----\n",
                "the section `A` begins on line 1, and the end on line 3 is that of `B`",
            ),
            (
                "-----BEGIN A-----\nAAAA\n-----END A--\n",
                "the section `A` begins on line 1, and the end on line 3 is cut off",
            ),
            (
                "-----BEGIN A-----\nA\u{e4}AA\n-----END A-----\n",
                "the section `A` on line 1 is not base64",
            ),
            (
                "text\n-----END A-----\n",
                "`-----END A-----` on line 2 ends a section that has no beginning",
            ),
            (
                "-----BEGIN A-----\nAAAA\n-----END A-----\n----BEGIN A-----\nAAAA\n-----END A-----\n",
                "`----BEGIN A-----` on line 4 has not the five dashes of a section",
            ),
            (
                "\u{2014}\u{2013}BEGIN A\u{2014}\u{2013}\nAAAA\n\u{2014}\u{2013}END A\u{2014}\u{2013}\n",
                "`\u{2014}\u{2013}BEGIN A\u{2014}\u{2013}` on line 1 has not the five dashes of a section",
            ),
        ] {
            assert_eq!(blocks(text).unwrap_err(), expected, "{text:?}");
        }
    }
}
