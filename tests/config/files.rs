//! The file itself, and the files that it names.

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

/// The lines about a file, without its name in front.
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
                "key: the certificate in `{}` is of no use: ",
                shown("broken.pem")
            ),
        ),
        (
            "a.pem",
            "broken.key",
            format!("key: the key in `{}` is of no use: ", shown("broken.key")),
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
    // rustls would trust it; Pingora panics when it takes it apart.
    let wrong = include_str!("../fuzz/pem/thirteenth_month");
    write(&directory, "none.pem", wrong);
    let told = errors(&file).concat();
    assert!(told.contains("a certificate that is of no use: "), "{told}");
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
            ":1:63: listeners[0].tls.certificates[0]: `certificate` is missing, the file with the chain",
            ":1:63: listeners[0].tls.certificates[0]: `key` is missing, the file with the private key",
            ":1:75: listeners[0].tls.http2: `no` is not one of `true`, `false`",
        ]
    );
}
