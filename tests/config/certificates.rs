//! Certificates, keys and authorities in PEM files.

use std::path::Path;

use ballast::config::{CertificateSource, Config};
use rcgen::{CertificateParams, KeyPair};

use crate::file::{directory, errors, write};

/// A certificate for one name with its key, both PEM.
fn certificate(name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn relative_paths_start_at_the_configuration_file() {
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
    let [CertificateSource::Files(served)] = &*tls.certificates else {
        panic!("one certificate");
    };
    assert_eq!(served.files.chain_file, directory.path().join("a.pem"));
    assert_eq!(served.files.key_file, directory.path().join("a.key"));
    assert_eq!(served.names, ["a.example.com"]);
    let tls = config.pools[0].tls.as_ref().expect("TLS");
    let ca = tls.ca.as_ref().expect("authorities");
    assert_eq!(ca.file, directory.path().join("a.pem"));
    assert_eq!(ca.certificates, served.certified.cert);
    let text = std::fs::read_to_string(&file).expect("a file");
    let without_http2 = text.replace("a.key }] }", "a.key }], http2: false }");
    let config =
        Config::load(&write(&directory, "c.yaml", without_http2)).expect("a configuration");
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
        "truncated.pem",
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
    let path = |name: &str| directory.path().join(name).display().to_string();
    let error = |certificate: &str, key: &str| {
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
        let (_, message) = lines[0].split_once(": ").expect("a position");
        message.replace("listeners[0].tls.certificates[0].", "")
    };
    let none = "No such file or directory (os error 2)";
    for (certificate, key, expected) in [
        (
            "none.pem",
            "a.key",
            format!("certificate: cannot read `{}`: {none}", path("none.pem")),
        ),
        (
            "a.pem",
            "none.key",
            format!("key: cannot read `{}`: {none}", path("none.key")),
        ),
        (
            "empty.pem",
            "a.key",
            format!(
                "certificate: `{}` holds no certificate in PEM form",
                path("empty.pem")
            ),
        ),
        (
            "a.key",
            "a.key",
            format!(
                "certificate: `{}` holds no certificate in PEM form",
                path("a.key")
            ),
        ),
        (
            "a.pem",
            "a.pem",
            format!("key: `{}` holds no private key in PEM form", path("a.pem")),
        ),
        (
            "a.pem",
            "b.key",
            format!(
                "key: the key in `{}` does not belong to the certificate in `{}`",
                path("b.key"),
                path("a.pem")
            ),
        ),
    ] {
        assert_eq!(error(certificate, key), expected);
    }
    for (certificate, key, beginning) in [
        (
            "truncated.pem",
            "a.key",
            format!(
                "certificate: `{}` is not a proper PEM file: the section `CERTIFICATE` has no end",
                path("truncated.pem")
            ),
        ),
        (
            "broken.pem",
            "a.key",
            format!(
                "key: the certificate in `{}` cannot be used: ",
                path("broken.pem")
            ),
        ),
        (
            "a.pem",
            "broken.key",
            format!("key: the key in `{}` cannot be used: ", path("broken.key")),
        ),
        (
            "a.pem",
            "/dev/zero",
            "key: cannot read `/dev/zero`: larger than 1 MiB".to_owned(),
        ),
    ] {
        let line = error(certificate, key);
        assert!(line.starts_with(&beginning), "{line}");
    }
}

#[test]
fn unusable_authorities_are_refused() {
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
    let lines = errors(&file).concat();
    assert!(
        lines.contains("a certificate that cannot be used: "),
        "{lines}"
    );
}

#[test]
fn every_key_of_a_tls_section_is_validated() {
    let directory = directory();
    let file = write(
        &directory,
        "b.yaml",
        "listeners: [{ address: \"127.0.0.1:443\", tls: { certificates: [{}], http2: no } }]\npools: { web: { hosts: [\"127.0.0.1:1\"] } }\n",
    );
    assert_eq!(
        errors(&file),
        [
            ":1:63: listeners[0].tls.certificates[0]: there is neither `certificate` nor `directory`; write this as in `{ certificate: /etc/ballast/example.com.pem, key: /etc/ballast/example.com.key }`",
            ":1:75: listeners[0].tls.http2: `no` is not one of `true`, `false`; did you mean `false`?",
        ]
    );
}

#[test]
fn wrong_values_of_tls_are_described() {
    let directory = directory();
    let (certificate, key) = certificate("a.example.com");
    write(&directory, "both.pem", format!("{certificate}{key}"));
    write(&directory, "a.pem", &certificate);
    write(&directory, "short.key", "short");
    let error = |tls: &str| {
        let file = format!(
            "server: {{ certificate_check: 1h }}\n\
             listeners: [{{ address: \"127.0.0.1:443\", tls: {{ {tls} }} }}]\n\
             pools: {{ web: {{ hosts: [\"127.0.0.1:1\"] }} }}\n"
        );
        let lines = errors(&write(&directory, "b.yaml", file));
        lines.join("\n").replace("listeners[0].tls.", "")
    };
    let path = |name: &str| directory.path().join(name).display().to_string();
    for (tls, expected) in [
        (
            "certificates: { directory: ., key: a.key }",
            "certificates.directory: a directory has certificates and keys already; make two entries of a list of them",
        ),
        (
            "certificates: [{ certificate: a.pem, directory: . }]",
            "certificates[0].directory: a directory has certificates and keys already",
        ),
        (
            "certificates: { key: a.key }",
            "certificates: there is neither `certificate` nor `directory`; write this as in `{ certificate: ",
        ),
        (
            "certificates: { certificate: a.pem }",
            &format!(
                "certificates.key: `{}` holds no private key in PEM form",
                path("a.pem")
            ),
        ),
        (
            "certificates: { certificate: both.pem, ocsp: none }",
            &format!(
                "certificates.ocsp: cannot read `{}`: No such file",
                path("none")
            ),
        ),
        (
            "certificates: { certificate: both.pem, ocsp: a.pem }",
            "a.pem` is not an OCSP response in DER form, as `openssl ocsp -respout FILE` writes it",
        ),
        (
            "certificates: { directory: ., ocsp: a.ocsp }",
            "certificates.directory: a directory has certificates and keys already",
        ),
        (
            "certificates: { directory: none }",
            &format!(
                "certificates.directory: cannot read the directory `{}`: No such file",
                path("none")
            ),
        ),
        (
            "certificates: [both.pem]",
            "certificates[0]: expected a map, found `both.pem`",
        ),
        (
            "certificates: { certificate: both.pem }, sni_strict: 1",
            "sni_strict: `1` is not one of `true`, `false`",
        ),
        (
            "certificates: { certificate: both.pem }, profile: old",
            "profile: `old` is not one of `intermediate`, `modern`",
        ),
        (
            "certificates: { certificate: both.pem }, min_version: 1.1",
            "min_version: `1.1` is not one of `1.2`, `1.3`",
        ),
        (
            "certificates: { certificate: both.pem }, min_version: 1.2, profile: modern",
            "min_version: the profile `modern` is TLS 1.3 alone; leave this out, or take `intermediate`",
        ),
        (
            "certificates: { certificate: both.pem }, session_tickets: off",
            "session_tickets: `off` is neither `none` nor a map; did you mean `none`?",
        ),
        (
            "certificates: { certificate: both.pem }, session_tickets: { secret_file: short.key }",
            "holds 5 bytes; a secret has at least 16",
        ),
    ] {
        let line = error(tls);
        assert!(line.contains(expected), "{tls}: {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    // A certificate with its key, and no checks.
    let file = "server: { certificate_check: 0s }\n\
                listeners: [{ address: \"127.0.0.1:443\", tls: { certificates: { certificate: both.pem } } }]\n\
                pools: { web: { hosts: [\"127.0.0.1:1\"] } }\n";
    let config = Config::load(&write(&directory, "b.yaml", file)).expect("a configuration");
    assert_eq!(config.server.certificate_check, None);
}

#[test]
fn unusable_keys_are_described() {
    let directory = directory();
    let (certificate, _) = certificate("a.example.com");
    write(&directory, "a.pem", certificate);
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/keys");
    let error = |key: &str| {
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
        let line = error(key);
        assert!(line.contains(expected), "{key}: {line}");
        assert!(line.contains(key), "{key}: {line}");
        if !key.starts_with("encrypted") {
            assert!(line.contains("RSA keys of 2048 to 4096 bits"), "{line}");
        }
    }
    // A usable one, after its parameters.
    let line = error("with_parameters.pem");
    assert!(
        line.contains("does not belong to the certificate"),
        "{line}"
    );
}

#[test]
fn of_several_keys_in_a_file_the_matching_one_is_used() {
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
    let lines = errors(&file).concat();
    assert!(
        lines.contains("does not belong to the certificate"),
        "{lines}"
    );
}

#[test]
fn no_certificate_is_skipped_silently() {
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
    let on_one_line = format!("{}{second}", first.trim_end());
    for text in [
        on_one_line.clone(),
        format!("\u{feff}{on_one_line}"),
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
        let mut served = tls.all_certificates();
        assert_eq!(
            served.next().map(|it| it.certified.cert.len()),
            Some(2),
            "{text}"
        );
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
        let lines = errors(&file).concat();
        assert!(lines.contains(expected), "{lines}");
        let line = first.lines().count() + 1;
        assert!(
            expected.contains("no beginning") || lines.contains(&format!("line {line}")),
            "{lines}"
        );
    }
    write(&directory, "a.pem", b"\x30\x82\x01\x00");
    let lines = errors(&file).concat();
    assert!(lines.contains("holds DER, not PEM"), "{lines}");
}

#[test]
fn wrong_values_of_client_certificates_are_described() {
    let directory = directory();
    let (certificate, key) = certificate("a.example.com");
    write(&directory, "a.pem", &certificate);
    write(&directory, "a.key", &key);
    write(
        &directory,
        "bad.crl",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    );
    write(&directory, "empty.crl", "");
    write(&directory, "ticket.key", "0123456789abcdef0123456789abcdef");
    let yaml = |tls: &str, routes: &str| {
        let text = format!(
            "listeners: [{{ address: \"127.0.0.1:443\", tls: {{ certificates: {{ certificate: a.pem, key: a.key }}, {tls} }} }}]\n\
             pools: {{ web: {{ hosts: [\"127.0.0.1:1\"] }} }}\n{routes}\n"
        );
        write(&directory, "b.yaml", text)
    };
    let path = |name: &str| directory.path().join(name).display().to_string();
    let crl = |name: &str| format!("client_certificates: {{ ca: a.pem, crl: {name} }}");
    for (tls, routes, expected) in [
        (
            "client_certificates: { mode: required }".to_owned(),
            "",
            "`ca`".to_owned(),
        ),
        (
            "client_certificates: { ca: a.key }".to_owned(),
            "",
            format!(
                "client_certificates.ca: `{}` holds no certificate in PEM form",
                path("a.key")
            ),
        ),
        (
            "client_certificates: { ca: a.pem, mode: on }".to_owned(),
            "",
            "client_certificates.mode: `on` is not one of `required`, `optional`".to_owned(),
        ),
        (
            crl("a.pem"),
            "",
            format!(
                "client_certificates.crl: line 1 of `{}` begins a section `CERTIFICATE`, not a revocation list (X509 CRL)",
                path("a.pem")
            ),
        ),
        (
            crl("bad.crl"),
            "",
            format!(
                "client_certificates.crl: the revocation list on line 1 of `{}` cannot be used: ",
                path("bad.crl")
            ),
        ),
        (
            crl("empty.crl"),
            "",
            format!(
                "client_certificates.crl: `{}` holds no revocation list in PEM form",
                path("empty.crl")
            ),
        ),
        (
            "client_certificates: { ca: a.pem }, session_tickets: { secret_file: ticket.key }"
                .to_owned(),
            "",
            "tls.session_tickets: a listener with client_certificates resumes no sessions"
                .to_owned(),
        ),
        (
            String::new(),
            "routes: [{ pool: web, client_certificate: required }]",
            "routes[0].client_certificate: no listener has `tls: { client_certificates: "
                .to_owned(),
        ),
    ] {
        let lines = errors(&yaml(&tls, routes)).join("\n");
        assert!(lines.contains(&expected), "{tls} {routes}: {lines}");
    }
    Config::load(&yaml("client_certificates: { ca: a.pem }", "")).expect("a configuration");
}

#[test]
fn wrong_certificates_for_hosts_are_described() {
    let directory = directory();
    let (certificate, key) = certificate("a.example.com");
    let other_key = self::certificate("b.example.com").1;
    write(&directory, "a.pem", certificate.clone() + &key);
    write(&directory, "a.key", &key);
    write(&directory, "b.key", other_key);
    let path = |name: &str| directory.path().join(name).display().to_string();
    let yaml = |tls: &str| {
        let text = format!(
            "listeners: [\"127.0.0.1:80\"]\npools: {{ web: {{ hosts: [\"127.0.0.1:1\"], tls: {{ {tls} }} }} }}\n"
        );
        write(&directory, "b.yaml", text)
    };
    for (tls, expected) in [
        (
            "certificate: a.pem",
            "tls.certificate: its private key is missing; add `key: FILE`, which may be the same file".to_owned(),
        ),
        (
            "key: a.key",
            "tls.key: its certificate is missing; add `certificate: FILE`".to_owned(),
        ),
        (
            "certificate: a.pem, key: b.key",
            format!(
                "tls.key: the key in `{}` does not belong to the certificate in `{}`",
                path("b.key"),
                path("a.pem")
            ),
        ),
        (
            "certificate: a.key, key: a.key",
            format!(
                "tls.certificate: `{}` holds no certificate in PEM form",
                path("a.key")
            ),
        ),
    ] {
        let lines = errors(&yaml(tls));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].ends_with(&expected), "{tls}: {}", lines[0]);
    }
    for key in ["a.pem", "a.key"] {
        let config = Config::load(&yaml(&format!("certificate: a.pem, key: {key}")));
        config.expect("a configuration");
    }
}
