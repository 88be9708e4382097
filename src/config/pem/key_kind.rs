//! The kind of a private key, for the message that it cannot be used.

use crate::config::der::{IDENTIFIER, INTEGER, OCTETS, SEQUENCE, take};

/// Object identifiers in DER, as keys have them.
const KINDS: [(&[u8], &str); 8] = [
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", RSA),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", "an RSA-PSS key"),
    (b"\x2a\x86\x48\xce\x38\x04\x01", "a DSA key"),
    (b"\x2b\x65\x70", "an Ed25519 key"),
    (b"\x2b\x65\x71", "an Ed448 key"),
    (b"\x2b\x65\x6e", "an X25519 key, which cannot sign"),
    (b"\x2b\x65\x6f", "an X448 key, which cannot sign"),
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x03\x01",
        "a Diffie-Hellman key, which cannot sign",
    ),
];

const EC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";

const CURVES: [(&[u8], &str); 10] = [
    (b"\x2a\x86\x48\xce\x3d\x03\x01\x01", "P-192"),
    (b"\x2b\x81\x04\x00\x21", "P-224"),
    (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", "P-256"),
    (b"\x2b\x81\x04\x00\x22", "P-384"),
    (b"\x2b\x81\x04\x00\x23", "P-521"),
    (b"\x2b\x81\x04\x00\x0a", "secp256k1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x07", "brainpoolP256r1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0b", "brainpoolP384r1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0d", "brainpoolP512r1"),
    (b"\x2a\x81\x1c\xcf\x55\x01\x82\x2d", "SM2"),
];

/// ML-DSA has three strengths; the last byte of the identifier is one of these.
const ML_DSA: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x03";

const RSA: &str = "an RSA key";

const PARAMETERS: u8 = 0xa0;

/// The kind of a key of PKCS #8, in words.
pub(super) fn of_pkcs8(der: &[u8]) -> Option<String> {
    let (key, _) = take(SEQUENCE, der)?;
    let (_version, key) = take(INTEGER, key)?;
    let (algorithm, key) = take(SEQUENCE, key)?;
    let (identifier, parameters) = take(IDENTIFIER, algorithm)?;
    if identifier == EC {
        return Some(on_curve(
            take(IDENTIFIER, parameters).map(|(curve, _)| curve),
        ));
    }
    if let [first @ .., 0x11..=0x13] = identifier
        && first == ML_DSA
    {
        return Some("an ML-DSA key".to_owned());
    }
    let (_, kind) = KINDS.iter().find(|(known, _)| *known == identifier)?;
    if *kind == RSA {
        return take(OCTETS, key).and_then(|(key, _)| of_pkcs1(key));
    }
    Some((*kind).to_owned())
}

/// The kind of a key of PKCS #1.
pub(super) fn of_pkcs1(der: &[u8]) -> Option<String> {
    let (key, _) = take(SEQUENCE, der)?;
    let (_version, key) = take(INTEGER, key)?;
    let (modulus, _) = take(INTEGER, key)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    let bits = (modulus.len() - zeros) * 8 - first.leading_zeros() as usize;
    Some(format!("{RSA} of {bits} bits"))
}

/// The kind of a key of SEC 1.
pub(super) fn of_sec1(der: &[u8]) -> Option<String> {
    let (key, _) = take(SEQUENCE, der)?;
    let (_version, key) = take(INTEGER, key)?;
    let (_key, rest) = take(OCTETS, key)?;
    let curve = take(PARAMETERS, rest).and_then(|(parameters, _)| take(IDENTIFIER, parameters));
    Some(on_curve(curve.map(|(curve, _)| curve)))
}

fn on_curve(curve: Option<&[u8]>) -> String {
    let Some(curve) = curve else {
        return "an EC key on a curve without a name".to_owned();
    };
    match CURVES.iter().find(|(known, _)| *known == curve) {
        Some((_, name)) => format!("an EC key on the curve {name}"),
        None => "an EC key on an unknown curve".to_owned(),
    }
}
