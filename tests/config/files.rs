//! The configuration file itself, and the files that it names.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use ballast::config::Config;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn write(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).expect("a file");
    path
}

/// The error lines about a file, without its name at the start.
fn errors(file: &Path) -> Vec<String> {
    let errors = match Config::load(file) {
        Ok(config) => panic!("accepted: {config:#?}"),
        Err(errors) => errors,
    };
    let as_error: &dyn Error = &errors;
    let prefix = file.display().to_string();
    let lines = as_error.to_string();
    let stripped = lines
        .lines()
        .map(|line| line.strip_prefix(&prefix).expect("the file's name"));
    stripped.map(str::to_owned).collect()
}

/// A certificate for one name with its key, both PEM.
fn certificate(name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line() {
    let directory = directory();
    assert_eq!(
        errors(&directory.path().join("none.yaml")),
        [": cannot read the configuration: there is no such file"]
    );
    let lines = errors(directory.path());
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with(": cannot read the configuration: "),
        "{lines:#?}"
    );
    let large = write(&directory, "large.yaml", vec![b'#'; (1 << 20) + 1]);
    assert_eq!(
        errors(&large),
        [": cannot read the configuration: larger than 1 MiB"]
    );
    let garbage = Vec::from_iter(
        (0..10 << 20).map(|byte: u32| (byte.wrapping_mul(2_654_435_761) >> 24) as u8),
    );
    let garbage = write(&directory, "garbage.yaml", garbage);
    assert_eq!(
        errors(&garbage),
        [": cannot read the configuration: larger than 1 MiB"]
    );
    let latin = write(&directory, "latin.yaml", b"a: 1\nb: \xe4\n");
    assert_eq!(errors(&latin), [": line 2 is not UTF-8 text"]);
}

#[test]
fn names_are_resolved_by_the_system() {
    let directory = directory();
    let file = write(
        &directory,
        "b.yaml",
        "listeners: [\"127.0.0.1:80\"]\npools: { web: { hosts: [\"localhost:81\"] } }\n",
    );
    let config = Config::load(&file).expect("a configuration");
    let host = &config.pools[0].hosts[0];
    assert!(host.address.ip().is_loopback());
    assert_eq!(host.address.port(), 81);
}

#[test]
fn certificates_are_found_beside_the_configuration() {
    let directory = directory();
    let (certificate, key) = certificate("a.example.com");
    write(&directory, "a.pem", &certificate);
    write(&directory, "a.key", &key);
    let file = write(
        &directory,
        "b.yaml",
        "listeners: [{ address: \"127.0.0.1:443\", tls: { certificates: [{ certificate: a.pem, key: a.key }] } }]\n\
         pools: { web: { hosts: [\"127.0.0.1:1\"], tls: { ca: a.pem } } }\n",
    );
    let config = Config::load(&file).expect("a configuration");
    let tls = config.listeners[0].tls.as_ref().expect("TLS");
    assert!(tls.http2);
    let [served] = &*tls.certificates else {
        panic!("one certificate");
    };
    assert_eq!(served.chain_file, directory.path().join("a.pem"));
    assert_eq!(served.key_file, directory.path().join("a.key"));
    let tls = config.pools[0].tls.as_ref().expect("TLS");
    let ca = tls.ca.as_ref().expect("authorities");
    assert_eq!(ca.file, directory.path().join("a.pem"));
    assert_eq!(ca.certificates, served.certified.cert);
    let said = std::fs::read_to_string(&file).expect("a file");
    let without = said.replace("a.key }] }", "a.key }], http2: false }");
    let config = Config::load(&write(&directory, "c.yaml", without)).expect("a configuration");
    let tls = config.listeners[0].tls.as_ref().expect("TLS");
    assert!(!tls.http2);
}

#[test]
fn certificates_that_cannot_serve_are_refused() {
    let directory = directory();
    let (certificate, key) = certificate("a.example.com");
    let other_key = self::certificate("b.example.com").1;
    write(&directory, "a.pem", &certificate);
    write(&directory, "a.key", &key);
    write(&directory, "b.key", other_key);
    write(&directory, "empty.pem", "");
    write(
        &directory,
        "torn.pem",
        &certificate[..certificate.len() / 2],
    );
    write(
        &directory,
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    write(
        &directory,
        "broken.key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let shown = |name: &str| directory.path().join(name).display().to_string();
    let told = |certificate: &str, key: &str| {
        let file = write(
            &directory,
            "b.yaml",
            format!(
                "listeners: [{{ address: \"127.0.0.1:443\", tls: {{ certificates: [{{ certificate: {certificate}, key: {key} }}] }} }}]\n\
                 pools: {{ web: {{ hosts: [\"127.0.0.1:1\"] }} }}\n"
            ),
        );
        let lines = errors(&file);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        let (_, message) = lines[0].split_once(": ").expect("a place");
        message.replace("listeners[0].tls.certificates[0].", "")
    };
    let none = "No such file or directory (os error 2)";
    for (certificate, key, expected) in [
        (
            "none.pem",
            "a.key",
            format!("certificate: cannot read `{}`: {none}", shown("none.pem")),
        ),
        (
            "a.pem",
            "none.key",
            format!("key: cannot read `{}`: {none}", shown("none.key")),
        ),
        (
            "empty.pem",
            "a.key",
            format!(
                "certificate: `{}` holds no certificate in PEM form",
                shown("empty.pem")
            ),
        ),
        (
            "a.key",
            "a.key",
            format!(
                "certificate: `{}` holds no certificate in PEM form",
                shown("a.key")
            ),
        ),
        (
            "a.pem",
            "a.pem",
            format!("key: `{}` holds no private key in PEM form", shown("a.pem")),
        ),
        (
            "a.pem",
            "b.key",
            format!(
                "key: the key in `{}` does not belong to the certificate in `{}`",
                shown("b.key"),
                shown("a.pem")
            ),
        ),
    ] {
        assert_eq!(told(certificate, key), expected);
    }
    for (certificate, key, beginning) in [
        (
            "torn.pem",
            "a.key",
            format!(
                "certificate: `{}` is not a proper PEM file: the section `CERTIFICATE` has no end",
                shown("torn.pem")
            ),
        ),
        (
            "broken.pem",
            "a.key",
            format!(
                "key: the certificate in `{}` cannot be used: ",
                shown("broken.pem")
            ),
        ),
        (
            "a.pem",
            "broken.key",
            format!("key: the key in `{}` cannot be used: ", shown("broken.key")),
        ),
        (
            "a.pem",
            "/dev/zero",
            "key: cannot read `/dev/zero`: larger than 1 MiB".to_owned(),
        ),
    ] {
        let line = told(certificate, key);
        assert!(line.starts_with(&beginning), "{line}");
    }
}

#[test]
fn authorities_are_read_too() {
    let directory = directory();
    let file = write(
        &directory,
        "b.yaml",
        "listeners: [\"127.0.0.1:80\"]\npools:\n  web: { hosts: [\"127.0.0.1:1\"], tls: { ca: none.pem } }\n",
    );
    let none = directory.path().join("none.pem");
    assert_eq!(
        errors(&file),
        [format!(
            ":3:45: pools.web.tls.ca: cannot read `{}`: No such file or directory (os error 2)",
            none.display()
        )]
    );
    // rustls would trust it; Pingora panics when it parses it.
    let wrong = include_str!("../fuzz/pem/thirteenth_month");
    write(&directory, "none.pem", wrong);
    let told = errors(&file).concat();
    assert!(
        told.contains("a certificate that cannot be used: "),
        "{told}"
    );
}

#[test]
fn what_tls_says_is_checked_key_by_key() {
    let directory = directory();
    let file = write(
        &directory,
        "b.yaml",
        "listeners: [{ address: \"127.0.0.1:443\", tls: { certificates: [{}], http2: no } }]\npools: { web: { hosts: [\"127.0.0.1:1\"] } }\n",
    );
    assert_eq!(
        errors(&file),
        [
            ":1:63: listeners[0].tls.certificates[0]: `certificate` is missing; write it as in `certificate: /etc/ballast/example.com.pem`",
            ":1:63: listeners[0].tls.certificates[0]: `key` is missing; write it as in `key: /etc/ballast/example.com.key`",
            ":1:75: listeners[0].tls.http2: `no` is not one of `true`, `false`; did you mean `false`?",
        ]
    );
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    let directory = directory();
    let (certificate, _) = certificate("a.example.com");
    write(&directory, "a.pem", certificate);
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/keys");
    let told = |key: &str| {
        let file = format!(
            "listeners: [{{ address: \"127.0.0.1:443\", tls: {{ certificates: [{{ certificate: a.pem, key: {} }}] }} }}]\n\
             pools: {{ web: {{ hosts: [\"127.0.0.1:1\"] }} }}\n",
            keys.join(key).display()
        );
        let lines = errors(&write(&directory, "b.yaml", file));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines.concat()
    };
    for (key, expected) in [
        ("encrypted.pem", "it is encrypted"),
        ("encrypted_traditional.pem", "it is encrypted"),
        ("p224.pem", "it is an EC key on the curve P-224;"),
        ("p521.pem", "it is an EC key on the curve P-521;"),
        ("secp256k1.pem", "it is an EC key on the curve secp256k1;"),
        ("ed448.pem", "it is an Ed448 key;"),
        ("x25519.pem", "it is an X25519 key, which cannot sign;"),
        ("dsa.pem", "it is a DSA key;"),
        ("rsa1024.pem", "it is an RSA key of 1024 bits;"),
        ("rsa1024_pkcs8.pem", "it is an RSA key of 1024 bits;"),
        ("rsa8192.pem", "it is an RSA key of 8192 bits;"),
        ("rsa_pss.pem", "it is an RSA-PSS key;"),
    ] {
        let line = told(key);
        assert!(line.contains(expected), "{key}: {line}");
        assert!(line.contains(key), "{key}: {line}");
        if !key.starts_with("encrypted") {
            assert!(line.contains("RSA keys of 2048 to 4096 bits"), "{line}");
        }
    }
    // A usable one, after its parameters.
    let line = told("with_parameters.pem");
    assert!(
        line.contains("does not belong to the certificate"),
        "{line}"
    );
}

#[test]
fn the_key_that_fits_is_taken_from_a_file_with_several() {
    let directory = directory();
    let (certificate, key) = certificate("a.example.com");
    let unusable = include_str!("keys/p521.pem");
    let other = include_str!("keys/with_parameters.pem");
    let file = write(
        &directory,
        "b.yaml",
        "listeners: [{ address: \"127.0.0.1:443\", tls: { certificates: [{ certificate: a.pem, key: a.pem }] } }]\n\
         pools: { web: { hosts: [\"127.0.0.1:1\"] } }\n",
    );
    for text in [
        format!("{certificate}{key}"),
        format!("{key}{certificate}"),
        format!("{other}{certificate}{key}"),
        format!("{unusable}{other}{key}{certificate}"),
    ] {
        write(&directory, "a.pem", text);
        Config::load(&file).expect("a configuration");
    }
    write(&directory, "a.pem", format!("{other}{certificate}"));
    let told = errors(&file).concat();
    assert!(
        told.contains("does not belong to the certificate"),
        "{told}"
    );
}

#[test]
fn no_certificate_is_left_out_in_silence() {
    let directory = directory();
    let (first, key) = certificate("a.example.com");
    let (second, _) = certificate("b.example.com");
    write(&directory, "a.key", &key);
    let file = write(
        &directory,
        "b.yaml",
        "listeners: [{ address: \"127.0.0.1:443\", tls: { certificates: [{ certificate: a.pem, key: a.key }] } }]\n\
         pools: { web: { hosts: [\"127.0.0.1:1\"], tls: { ca: a.pem } } }\n",
    );
    let glued = format!("{}{second}", first.trim_end());
    for text in [
        glued.clone(),
        format!("\u{feff}{glued}"),
        format!(
            "{first}{}",
            second.replace("CERTIFICATE", "X509 CERTIFICATE")
        ),
        format!(
            "{first}{}{second}",
            include_str!("keys/with_parameters.pem")
        ),
    ] {
        write(&directory, "a.pem", &text);
        let config = Config::load(&file).expect("a configuration");
        let tls = config.listeners[0].tls.as_ref().expect("TLS");
        assert_eq!(tls.certificates[0].certified.cert.len(), 2, "{text}");
        let tls = config.pools[0].tls.as_ref().expect("TLS");
        let ca = tls.ca.as_ref().expect("authorities");
        assert_eq!(ca.certificates.len(), 2, "{text}");
    }
    for (text, expected) in [
        (
            format!("{first}{}", second.replacen("-----BEGIN", "----BEGIN", 1)),
            "has not the five dashes of a section",
        ),
        (
            format!(
                "{first}{}",
                second.replacen("-----BEGIN CERTIFICATE-----\n", "", 1)
            ),
            "ends a section that has no beginning",
        ),
        (
            format!(
                "{first}{}",
                second.replace("CERTIFICATE", "TRUSTED CERTIFICATE")
            ),
            "begins a section `TRUSTED CERTIFICATE`, not a certificate, OpenSSL's own form",
        ),
        (
            format!("{first}{}", second.replace("CERTIFICATE", "CERTIFICAT")),
            "begins a section `CERTIFICAT`, not a certificate",
        ),
        (
            format!("{first}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "does not hold a certificate",
        ),
        (
            format!("{first}-----BEGIN CERTIFICATE-----\nA!AA\n-----END CERTIFICATE-----\n"),
            "is not base64",
        ),
    ] {
        write(&directory, "a.pem", &text);
        let told = errors(&file).concat();
        assert!(told.contains(expected), "{told}");
        let line = first.lines().count() + 1;
        assert!(
            expected.contains("no beginning") || told.contains(&format!("line {line}")),
            "{told}"
        );
    }
    write(&directory, "a.pem", b"\x30\x82\x01\x00");
    let told = errors(&file).concat();
    assert!(told.contains("holds DER, not PEM"), "{told}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_any_text() {
    let directory = directory();
    let text = "listeners: [\"127.0.0.1:80\"]\nadmin: { address: \"127.0.0.1:81\", token_file: token }\n\
                pools: { web: { hosts: [\"127.0.0.1:1\"] } }\n";
    let token = write(&directory, "token", "\u{feff}0123456789abcdef\r\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&token, mode).expect("it is ours");
    let file = write(&directory, "b.yaml", format!("\u{feff}{text}"));
    let config = Config::load(&file).expect("a configuration");
    let token = config.admin.token_file.expect("a token");
    assert_eq!(token.bytes, b"0123456789abcdef");
    // Lines and columns are counted without the byte order mark.
    let file = write(
        &directory,
        "b.yaml",
        format!("\u{feff}{}", text.replace(":80", ":0")),
    );
    assert!(errors(&file).concat().starts_with(":1:13: listeners[0]: "));
    let wide = Vec::from_iter(
        format!("\u{feff}{text}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes),
    );
    let file = write(&directory, "b.yaml", wide);
    assert_eq!(
        errors(&file),
        [": the file is UTF-16 text; save it as UTF-8"]
    );
}
