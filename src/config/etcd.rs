//! `etcd`: how the members of an etcd cluster are reached.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::document::Node;
use super::hints::quote;
use super::pool_tls::{
    Authorities, ShownCertificate, ShownIdentity, ShownKey, authorities, check_identity,
    server_name, shown_certificate, shown_key,
};
use super::schema::{Kind, Reader, Scalar, file, list, map_of, scalar, section, time};
use super::secret::{self, Secret};
use super::url::{Endpoint, has_user, parse_url};

/// The members of one cluster are 3 to 7.
const MAX_ENDPOINTS: usize = 32;

const EXAMPLE_ENDPOINT: &str = "https://etcd1:2379";

section! {
    /// How the members of an etcd cluster are reached.
    pub struct Etcd: Eq {
        /// The URLs of the members' client ports, all of one cluster. They are asked in turn: the next one if one does not
        /// answer.
        endpoints: Vec<Endpoint> { endpoints(), required "[\"https://etcd1:2379\", \"https://etcd2:2379\"]" },
        /// The name of a user of etcd, where its authentication is on. To http:// the password goes as plain text.
        user: Option<String> { user(), optional "ballast" },
        /// A file with the user's password, in a file that only its owner may read.
        password_file: Option<Secret> { password(), optional "/etc/ballast/etcd.password" },
        /// TLS to endpoints that begin with https://.
        tls: EtcdTls { map_of::<EtcdTls>(), default "{}" },
        /// The time for a connection to an endpoint, with its TLS handshake.
        connect_timeout: Duration { time(), default "2s" },
        /// The time for an answer of an endpoint, the connection included. A request may take it once for each endpoint, and
        /// once more if a connection breaks. A watch that is silent for so long is asked for a sign of life, which may take
        /// as long again.
        request_timeout: Duration { time(), default "5s" },
    }
    check check_credentials;
}

section! {
    /// TLS to an etcd cluster.
    pub struct EtcdTls: Eq {
        /// The server name that is asked for and verified; without it the name in the endpoint's URL.
        server_name: Option<String> { server_name(), optional "etcd.internal" },
        /// A PEM file of authorities that are trusted instead of the system's.
        ca: Option<Authorities> { authorities(), optional "/etc/ballast/etcd-ca.pem" },
        /// A PEM file of the certificate that the members get if they ask for one, and of those between it and its authority.
        certificate: Option<ShownCertificate> { shown_certificate(), optional "/etc/ballast/etcd.pem" },
        /// A PEM file of the certificate's private key.
        key: Option<ShownKey> { shown_key(), optional "/etc/ballast/etcd.key" },
    }
    check key_fits;
}

impl EtcdTls {
    /// What members get if they ask for a certificate.
    pub fn identity(&self) -> Option<ShownIdentity> {
        Some(ShownIdentity {
            certificate: self.certificate.clone()?,
            key: self.key.clone()?,
        })
    }
}

fn key_fits(tls: &mut EtcdTls, map: &Node, reader: &mut Reader<'_>) {
    check_identity(tls.certificate.as_ref(), tls.key.as_ref(), map, reader);
}

fn check_credentials(etcd: &mut Etcd, map: &Node, reader: &mut Reader<'_>) {
    match (&etcd.user, &etcd.password_file) {
        (Some(_), None) => {
            let message = "its password is missing; add `password_file: FILE`";
            reader.problem_of_key(map, "user", message);
        }
        (None, Some(_)) => {
            let message = "its user is missing; add `user: NAME`";
            reader.problem_of_key(map, "password_file", message);
        }
        _ => {}
    }
}

fn endpoints() -> impl Kind<Value = Vec<Endpoint>> {
    let endpoint = scalar("a URL", parse_endpoint, |endpoint: &Endpoint| {
        let text = endpoint.to_string();
        json!(text.trim_end_matches('/'))
    });
    list("endpoints", endpoint)
        .up_to(MAX_ENDPOINTS)
        .not_empty("there is no endpoint; write at least one, as in `[\"https://etcd1:2379\"]`")
}

fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    parse_url(text, EXAMPLE_ENDPOINT, |uri| {
        if has_user(uri) {
            let text = quote(text);
            return Err(format!("{text} has a user before the host; write `user`"));
        }
        match uri.path_and_query().is_none_or(|path| path.as_str() == "/") {
            true => Ok(()),
            false => Err(format!("{} has a path; gRPC has its own", quote(text))),
        }
    })
}

fn user() -> Scalar<String> {
    let read = |text: &str| match text.is_empty() {
        true => Err("a user has a name".to_owned()),
        false => Ok(text.to_owned()),
    };
    scalar("the name of a user", read, |name| json!(name))
}

fn password() -> Scalar<Secret> {
    let read =
        |path: PathBuf, reader: &Reader<'_>| secret::private_password(&path, reader.environment);
    file("the path of a file", read, |password: &Secret| {
        json!(password.file)
    })
}

#[cfg(test)]
impl Etcd {
    /// Reads the section alone, from the YAML of its map.
    pub(crate) fn parse(text: &str) -> Result<Etcd, String> {
        use super::environment::System;

        let files = [PathBuf::from("etcd.yaml")];
        let node = Node::of(text);
        let mut reader = Reader::new(&files, &System, Vec::new());
        let etcd = map_of::<Etcd>().read(&node, &mut reader);
        let problems = Vec::from_iter(reader.into_problems().into_iter().map(|it| it.message));
        etcd.ok_or_else(|| problems.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_of_servers_alone() {
        let etcd = Etcd::parse("{ endpoints: [\"http://a:1\", \"https://[::1]\"] }");
        let etcd = etcd.expect("it is valid");
        let shown = Vec::from_iter(etcd.endpoints.iter().map(Endpoint::authority));
        assert_eq!(shown, ["a:1", "[::1]:443"]);
        let dumped = map_of::<Etcd>().dump(&etcd);
        assert_eq!(
            dumped["endpoints"],
            json!(["http://a:1", "https://[::1]:443"])
        );
        for (endpoints, expected) in [
            ("[]", "there is no endpoint"),
            ("[\"a:1\"]", "is not a URL such as `https://etcd1:2379`"),
            ("[\"http://u:p@a:1\"]", "has a user before the host"),
            ("[\"http://a:1/v3\"]", "has a path"),
        ] {
            let problem = Etcd::parse(&format!("{{ endpoints: {endpoints} }}"));
            let problem = problem.expect_err(endpoints);
            assert!(problem.contains(expected), "{endpoints}: {problem}");
        }
    }

    #[test]
    fn a_user_has_a_password_and_a_certificate_a_key() {
        let problem = Etcd::parse("{ endpoints: [\"http://a:1\"], user: u }");
        let problem = problem.expect_err("no password");
        assert!(problem.contains("password_file: FILE"), "{problem}");
    }
}
