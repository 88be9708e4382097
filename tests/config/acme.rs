//! `acme`.

use ballast::config::{Acme, AcmeChallenge, Config};

use crate::file::{directory, errors, write};
use crate::{only_message, parse, try_parse};

const LISTENERS: &str = "listeners: [\"127.0.0.1:80\", { address: \"127.0.0.1:443\", tls: {} }]";

fn yaml(listeners: &str, acme: &str) -> String {
    format!("{listeners}\nacme: {{ {acme} }}\npools: {{ web: {{ hosts: [\"127.0.0.1:1\"] }} }}\n")
}

fn acme(keys: &str) -> Acme {
    parse(&yaml(LISTENERS, keys)).acme.expect("a section")
}

#[test]
fn the_domains_suffice() {
    let acme = acme("domains: [Example.com, xn--bcher-kva.example]");
    assert_eq!(acme.domains, ["example.com", "xn--bcher-kva.example"]);
    let directory = "https://acme-v02.api.letsencrypt.org:443/directory";
    assert_eq!(acme.directory.to_string(), directory);
    assert_eq!(acme.challenge, AcmeChallenge::Http01);
    assert_eq!(acme.state_directory.to_str(), Some("/var/lib/ballast/acme"));
    assert_eq!((acme.email, acme.ca, acme.profile), (None, None, None));
}

#[test]
fn each_authority_has_a_directory_of_its_own() {
    let of = |url: &str| {
        let acme = acme(&format!(
            "domains: [a.test], state_directory: /s, directory: \"{url}\""
        ));
        acme.authority_directory().display().to_string()
    };
    let (real, trial) = (of("https://ca.test/directory"), of("https://ca.test/trial"));
    assert!(real.starts_with("/s/ca.test-") && trial.starts_with("/s/ca.test-"));
    assert_ne!(real, trial);
    assert_eq!(of("https://ca.test:443/directory"), real);
    assert!(of("https://[::1]:14000/dir").starts_with("/s/--1-"));
}

#[test]
fn tls_needs_certificates_of_its_own_or_ordered_ones() {
    let without = yaml(LISTENERS, "domains: [a.test]").replace("acme:", "#");
    assert_eq!(
        only_message(&without),
        "listeners[1].tls.certificates: there is no certificate; TLS needs at least one"
    );
    let config = parse(&yaml(
        LISTENERS,
        "domains: [a.test], challenge: tls-alpn-01",
    ));
    let tls = config.listeners[1].tls.as_ref().expect("TLS");
    assert!(tls.answers_challenges && tls.ordered.is_some());
    assert_eq!(tls.all_certificates().count(), 0);
    // What is ordered is no part of the listener's own list.
    let dumped = config.dump();
    assert_eq!(
        dumped["listeners"][1]["tls"]["certificates"],
        serde_json::json!([])
    );
    assert_eq!(dumped["acme"]["domains"], serde_json::json!(["a.test"]));
}

#[test]
fn wrong_values_are_described() {
    for (keys, expected) in [
        (
            "email: a@b.test",
            "acme: `domains` is missing; write it as in `domains: [example.com, www.example.com]`",
        ),
        (
            "domains: []",
            "acme.domains: there is no domain to order a certificate for",
        ),
        (
            "domains: [\"*.a.test\"]",
            "acme.domains[0]: `*.a.test` is a wildcard, which authorities sign for a proof in DNS alone; list the names, \
             or give the listener a certificate from another client of ACME",
        ),
        (
            "domains: [192.0.2.1]",
            "acme.domains[0]: `192.0.2.1` is an address, not a host name",
        ),
        (
            "domains: [bücher.test]",
            "acme.domains[0]: `bücher.test` is not ASCII; write the name as in DNS, with `xn--`",
        ),
        (
            "domains: [\"../a\"]",
            "acme.domains[0]: `../a` is not a host name such as `example.com`",
        ),
        (
            "domains: [a..test]",
            "acme.domains[0]: `a..test` is not a host name such as `example.com`",
        ),
        (
            "domains: [a.test, b.test, A.test]",
            "acme.domains[2]: `a.test` is domains[0] already",
        ),
        (
            "domains: [a.test], email: admin",
            "acme.email: `admin` is not an address such as `admin@example.com`",
        ),
        (
            "domains: [a.test], email: \"a@b.test,c@d.test\"",
            "acme.email: `a@b.test,c@d.test` is not an address such as `admin@example.com`",
        ),
        (
            "domains: [a.test], directory: \"http://ca.test/dir\"",
            "acme.directory: `http://ca.test/dir` is not https://, which ACME demands",
        ),
        (
            "domains: [a.test], directory: letsencrypt",
            "acme.directory: `letsencrypt` is not a URL such as `https://acme-v02.api.letsencrypt.org/directory`",
        ),
        (
            "domains: [a.test], challenge: dns-01",
            "acme.challenge: `dns-01` is not one of `http-01`, `tls-alpn-01`",
        ),
        (
            "domains: [a.test], profile: \"\"",
            "acme.profile: nothing is not the name of a profile",
        ),
    ] {
        assert_eq!(only_message(&yaml(LISTENERS, keys)), expected, "{keys}");
    }
    let many = Vec::from_iter((0..1_001).map(|number| format!("a{number}.test"))).join(", ");
    assert_eq!(
        only_message(&yaml(LISTENERS, &format!("domains: [{many}]"))),
        "acme.domains: there are 1001 domains; the limit is 1000"
    );
}

#[test]
fn the_challenge_needs_a_listener() {
    let only = |listeners: &str, keys: &str| only_message(&yaml(listeners, keys));
    assert_eq!(
        only("listeners: [\"127.0.0.1:80\"]", "domains: [a.test]"),
        "acme.domains: no listener has TLS, so nothing would serve the certificates; add one such as \
         `{ address: \"0.0.0.0:443\", tls: {} }`"
    );
    let tls = "listeners: [{ address: \"127.0.0.1:443\", tls: {} }]";
    assert_eq!(
        only(tls, "domains: [a.test]"),
        "acme.challenge: `http-01` needs a listener without TLS, such as `0.0.0.0:80`; add one, or take `tls-alpn-01`"
    );
    assert!(try_parse(&yaml(tls, "domains: [a.test], challenge: tls-alpn-01")).is_ok());
}

#[test]
fn an_authority_has_no_certificate_to_show() {
    let folder = directory();
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
    write(&folder, "ca.pem", made.cert.pem());
    let load = |mode: &str| {
        let listeners = format!(
            "listeners: [{{ address: \"127.0.0.1:443\", tls: {{ client_certificates: {{ ca: ca.pem, mode: {mode} }} }} }}]"
        );
        write(
            &folder,
            "b.yaml",
            yaml(&listeners, "domains: [a.test], challenge: tls-alpn-01"),
        )
    };
    assert!(Config::load(&load("optional")).is_ok());
    let lines = errors(&load("required"));
    assert!(
        lines
            .concat()
            .contains("acme.challenge: the authority has no certificate to show"),
        "{lines:?}"
    );
}

#[test]
fn ordered_certificates_that_cannot_be_read_are_no_error() {
    let folder = directory();
    let listeners = LISTENERS;
    let file = write(
        &folder,
        "b.yaml",
        yaml(
            listeners,
            "domains: [a.test, b.test], state_directory: state",
        ),
    );
    let certificates = || {
        let config = Config::load(&file).expect("a configuration");
        let tls = config.listeners[1].tls.clone().expect("TLS");
        Vec::from_iter(
            tls.all_certificates()
                .map(|certificate| certificate.names.concat()),
        )
    };
    assert!(certificates().is_empty());
    let config = Config::load(&file).expect("a configuration");
    let state = config.acme.expect("a section").certificates_directory();
    assert!(state.starts_with(folder.path().join("state")));
    std::fs::create_dir_all(&state).expect("a directory");
    std::fs::write(state.join("a.test.pem"), "broken").expect("written");
    let made = rcgen::generate_simple_self_signed(["b.test".to_owned()]).expect("a certificate");
    let text = made.signing_key.serialize_pem() + &made.cert.pem();
    std::fs::write(state.join("b.test.pem"), text).expect("written");
    assert_eq!(certificates(), ["b.test"]);
}
