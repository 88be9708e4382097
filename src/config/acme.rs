//! `acme`: certificates that are ordered from an authority.

use std::path::PathBuf;

use serde_json::json;

use super::certificates::CertificateSource;
use super::document::Node;
use super::hints::quote;
use super::pool_tls::{Authorities, authorities};
use super::root::Config;
use super::schema::{Kind, List, Reader, Scalar, choice, file, list, scalar, section};
use super::url::{Endpoint, has_user, parse_url};
use super::{CertificateMode, Listener, ListenerTls};

/// A certificate each; one authority signs some hundred for an account in a day.
const MAX_DOMAINS: usize = 1_000;

/// Longest name in DNS.
const MAX_NAME_BYTES: usize = 253;
/// Longest part of a name.
const MAX_LABEL_BYTES: usize = 63;

const EXAMPLE_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

section! {
    /// `acme`: certificates that are ordered from an authority.
    pub struct Acme: Eq {
        /// The names to order certificates for, one for each.
        domains: Vec<String> { domains(), required "[example.com, www.example.com]" },
        /// Where the authority may write to about the account.
        email: Option<String> { email(), optional "admin@example.com" },
        /// The URL of the authority's directory. Whoever orders there agrees to its terms of service.
        directory: Endpoint { directory(), default "https://acme-v02.api.letsencrypt.org/directory" },
        /// A PEM file of the authorities that sign the certificate of the directory's server, instead of the system's.
        ca: Option<Authorities> { authorities(), optional "/etc/ballast/acme-ca.pem" },
        /// How a domain is proven to be this proxy's. `http-01`: over plain HTTP, which has to reach a listener without TLS
        /// from port 80 of the domain. `tls-alpn-01`: in a TLS handshake, which has to reach a listener from port 443.
        challenge: AcmeChallenge {
            choice(&[("http-01", AcmeChallenge::Http01), ("tls-alpn-01", AcmeChallenge::TlsAlpn01)]),
            default "http-01"
        },
        /// The profile of the certificates, by a name that the authority knows, such as Let's Encrypt's `shortlived` for six
        /// days.
        profile: Option<String> { profile(), optional "shortlived" },
        /// The directory for the account, the keys and the certificates, made if it is missing. Instances that have it in
        /// common order each certificate once, answer each other's challenges and serve the same certificates.
        state_directory: PathBuf { state_directory(), default "/var/lib/ballast/acme" },
    }
}

/// `acme.challenge`: how a domain is proven to be this proxy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a response over plain HTTP.
    Http01,
    /// By a certificate in a TLS handshake.
    TlsAlpn01,
}

impl Acme {
    /// The directory for what belongs to this authority: a test authority's certificates must not serve once the real one
    /// is configured.
    pub fn authority_directory(&self) -> PathBuf {
        let url = self.directory.to_string();
        let hash = crc32fast::hash(url.as_bytes());
        let host = self.directory.host.replace(':', "-");
        self.state_directory.join(format!("{host}-{hash:08x}"))
    }

    /// The directory of the certificates, each with its key in `DOMAIN.pem`.
    pub fn certificates_directory(&self) -> PathBuf {
        self.authority_directory().join("certificates")
    }
}

/// Gives the listeners with TLS the certificates that were ordered so far, and reports what they cannot be ordered for.
pub(super) fn apply(config: &mut Config, root: &Node, reader: &mut Reader<'_>) {
    let (Some(acme), Some(map)) = (&config.acme, root.get("acme")) else {
        return;
    };
    if let Some((key, message)) = obstacle(acme.challenge, &config.listeners) {
        reader.in_key("acme", |reader| reader.problem_of_key(map, key, message));
        return;
    }
    let ordered = CertificateSource::ordered(acme, reader.environment);
    let is_answered_by_handshake = acme.challenge == AcmeChallenge::TlsAlpn01;
    let listeners = config.listeners.iter_mut();
    for tls in listeners.filter_map(|listener| listener.tls.as_mut()) {
        tls.ordered = Some(ordered.clone());
        tls.answers_challenges = is_answered_by_handshake;
    }
}

/// Why certificates cannot be ordered for these listeners, with the key that says so.
fn obstacle(
    challenge: AcmeChallenge,
    listeners: &[Listener],
) -> Option<(&'static str, &'static str)> {
    let has_tls = |listener: &Listener| listener.tls.is_some();
    if !listeners.iter().any(has_tls) {
        return Some((
            "domains",
            "no listener has TLS, so nothing would serve the certificates; add one such as \
             `{ address: \"0.0.0.0:443\", tls: {} }`",
        ));
    }
    let (is_reachable, message) = match challenge {
        AcmeChallenge::Http01 => (
            !listeners.iter().all(has_tls),
            "`http-01` needs a listener without TLS, such as `0.0.0.0:80`; add one, or take `tls-alpn-01`",
        ),
        AcmeChallenge::TlsAlpn01 => (
            listeners.iter().any(takes_handshakes),
            "the authority has no certificate to show, and every listener with TLS requires one \
             (`client_certificates`); take `http-01`",
        ),
    };
    (!is_reachable).then_some(("challenge", message))
}

/// Whether an authority, which has no certificate, can finish a handshake with the listener.
fn takes_handshakes(listener: &Listener) -> bool {
    let requires = |tls: &ListenerTls| {
        let clients = tls.client_certificates.as_ref();
        clients.is_some_and(|clients| clients.mode == CertificateMode::Required)
    };
    listener.tls.as_ref().is_some_and(|tls| !requires(tls))
}

fn domains() -> List<impl Kind<Value = String>> {
    list(
        "domains",
        scalar("a host name", parse_domain, |name| json!(name)),
    )
    .up_to(MAX_DOMAINS)
    .not_empty("there is no domain to order a certificate for")
    .checked(domains_differ)
}

fn domains_differ(node: &Node, domains: &[(usize, String)], reader: &mut Reader<'_>) {
    for (position, (index, domain)) in domains.iter().enumerate() {
        let mut earlier = domains[..position].iter();
        if let (Some((first, _)), Some(element)) = (
            earlier.find(|(_, other)| other == domain),
            node.elements().get(*index),
        ) {
            let message = format!("{} is domains[{first}] already", quote(domain));
            reader.in_element(*index, |reader| reader.problem(element, message));
        }
    }
}

/// A name that an authority may sign by either challenge.
fn parse_domain(text: &str) -> Result<String, String> {
    let shown = quote(text);
    if text.starts_with("*.") {
        return Err(format!(
            "{shown} is a wildcard, which authorities sign for a proof in DNS alone; list the names, or give the \
             listener a certificate from another client of ACME"
        ));
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(format!("{shown} is an address, not a host name"));
    }
    if !text.is_ascii() {
        return Err(format!(
            "{shown} is not ASCII; write the name as in DNS, with `xn--`"
        ));
    }
    let name = text.to_ascii_lowercase();
    let is_proper = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match name.len() <= MAX_NAME_BYTES && name.split('.').all(is_proper) {
        true => Ok(name),
        false => Err(format!("{shown} is not a host name such as `example.com`")),
    }
}

fn email() -> Scalar<String> {
    let read = |text: &str| {
        let is_proper = text
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        // What separates addresses and parameters in a mailto URL would be read as more than one address.
        match is_proper
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"?&,%".contains(&b))
        {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "{} is not an address such as `admin@example.com`",
                quote(text)
            )),
        }
    };
    scalar("an e-mail address", read, |email| json!(email))
}

fn directory() -> Scalar<Endpoint> {
    scalar("a URL", parse_directory, |endpoint: &Endpoint| {
        json!(endpoint.to_string())
    })
}

fn parse_directory(text: &str) -> Result<Endpoint, String> {
    let endpoint = parse_url(text, EXAMPLE_DIRECTORY, |uri| match has_user(uri) {
        true => Err(format!("{} has a user before the host", quote(text))),
        false => Ok(()),
    })?;
    match endpoint.tls {
        true => Ok(endpoint),
        // RFC 8555 6.1.
        false => Err(format!(
            "{} is not https://, which ACME demands",
            quote(text)
        )),
    }
}

fn profile() -> Scalar<String> {
    let read = |text: &str| match !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is not the name of a profile", quote(text))),
    };
    scalar("the name of a profile", read, |name| json!(name))
}

fn state_directory() -> Scalar<PathBuf> {
    file(
        "the path of a directory",
        |path, _| Ok(path),
        |path| json!(path),
    )
}
