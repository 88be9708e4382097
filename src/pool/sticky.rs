//! Session affinity: the token in the cookie of a pool with `sticky`.
//!
//! A token is a digest of the host, the time of its creation, and an HMAC-SHA-256 of both, in base64url. The digest is
//! keyed as well, so a token reveals no address, and only a holder of the key can make one. The pool's name is
//! authenticated too, so a token of one pool is invalid in another.
//!
//! The time is the wall clock's, since the key may outlive the process. If the clock is set back, a token counts as
//! new; if it is set forward, clients change their host early.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::digest::SHA256_OUTPUT_LEN;
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::balancer::HostId;
use crate::config;

/// Length of a host's digest: two hosts of one pool collide in one of 2^64 pools.
const DIGEST: usize = 8;
/// The digest and the time, in seconds since 1970 as a big-endian number.
const PAYLOAD: usize = DIGEST + 8;
const TOKEN_LENGTH: usize = PAYLOAD + SHA256_OUTPUT_LEN;
/// Without padding: the length is a multiple of three.
const TEXT_LENGTH: usize = TOKEN_LENGTH / 3 * 4;

/// Makes and verifies the tokens of one pool.
#[derive(Debug)]
pub struct StickyTokens {
    config: config::Sticky,
    pool: String,
    hosts: Vec<HostId>,
    key: ArcSwap<Key>,
}

/// A random key in the form in which the pool's replacement takes it over. Debug output hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RandomKey([u8; 32]);

impl fmt::Debug for RandomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomKey")
    }
}

#[derive(Debug)]
struct Key {
    hmac: hmac::Key,
    hosts_by_digest: HashMap<[u8; DIGEST], HostId>,
    /// `None` if the configuration has a secret.
    random: Option<RandomKey>,
}

/// The content of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affinity {
    /// The host of the client's session; it may not be usable now.
    pub host: HostId,
    /// Whether more than half of the token's lifetime is over, so that the client should get a new one.
    pub needs_renewal: bool,
}

impl StickyTokens {
    pub(super) fn new<'a>(
        config: &config::Sticky,
        pool: &str,
        hosts: impl Iterator<Item = &'a HostId>,
    ) -> Self {
        let hosts = Vec::from_iter(hosts.cloned());
        let key = match &config.secret_file {
            Some(secret) => Key::new(&secret.bytes, None, pool, &hosts),
            None => Key::random(RandomKey(rand::random()), pool, &hosts),
        };
        StickyTokens {
            config: config.clone(),
            pool: pool.to_owned(),
            hosts,
            key: ArcSwap::from_pointee(key),
        }
    }

    /// The configuration of the cookie.
    pub fn config(&self) -> &config::Sticky {
        &self.config
    }

    /// A token for a client of `host`.
    pub fn token(&self, host: &HostId, now: SystemTime) -> String {
        let key = self.key.load();
        let mut token = [0; TOKEN_LENGTH];
        let (claim, tag) = token.split_at_mut(PAYLOAD);
        claim[..DIGEST].copy_from_slice(&digest(&key.hmac, &self.pool, host));
        claim[DIGEST..].copy_from_slice(&seconds(now).to_be_bytes());
        tag.copy_from_slice(hmac::sign(&key.hmac, &authenticated(&self.pool, claim)).as_ref());
        BASE64URL.encode(token)
    }

    /// Verifies a token; `None` if it was not made with this pool's key, is expired, or its host has left the pool.
    pub fn read(&self, token: &[u8], now: SystemTime) -> Option<Affinity> {
        // A cookie may contain anything, at any length.
        if token.len() != TEXT_LENGTH {
            return None;
        }
        let mut bytes = [0; TOKEN_LENGTH];
        BASE64URL.decode_slice(token, &mut bytes).ok()?;
        let (claim, tag) = bytes.split_at(PAYLOAD);
        let key = self.key.load();
        hmac::verify(&key.hmac, &authenticated(&self.pool, claim), tag).ok()?;
        let (digest, made) = claim.split_first_chunk()?;
        let made = u64::from_be_bytes(made.try_into().ok()?);
        let age = Duration::from_secs(seconds(now).saturating_sub(made));
        (age < self.config.ttl).then_some(())?;
        Some(Affinity {
            host: key.hosts_by_digest.get(digest)?.clone(),
            needs_renewal: age >= self.config.ttl / 2,
        })
    }

    /// The key, if this process made it.
    pub(super) fn random_key(&self) -> Option<RandomKey> {
        self.key.load().random.clone()
    }

    /// Continues with the key of the replaced pool, unless the configuration has one.
    pub(super) fn adopt_key(&self, key: &RandomKey) {
        if self.config.secret_file.is_none() {
            let key = Key::random(key.clone(), &self.pool, &self.hosts);
            self.key.store(Arc::new(key));
        }
    }
}

impl Key {
    fn random(key: RandomKey, pool: &str, hosts: &[HostId]) -> Self {
        let bytes = key.0;
        Key::new(&bytes, Some(key), pool, hosts)
    }

    fn new(secret: &[u8], random: Option<RandomKey>, pool: &str, hosts: &[HostId]) -> Self {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let hosts = hosts.iter();
        Key {
            hosts_by_digest: hosts
                .map(|host| (digest(&hmac, pool, host), host.clone()))
                .collect(),
            hmac,
            random,
        }
    }
}

/// The input of a token's tag. Pool names have no control characters, so the encoding is unambiguous.
fn authenticated(pool: &str, claim: &[u8]) -> Vec<u8> {
    [b"token\0", pool.as_bytes(), b"\0", claim].concat()
}

fn digest(key: &hmac::Key, pool: &str, host: &HostId) -> [u8; DIGEST] {
    let host = host.as_str().as_bytes();
    let tag = hmac::sign(key, &[b"host\0", pool.as_bytes(), b"\0", host].concat());
    let (digest, _) = tag
        .as_ref()
        .split_first_chunk()
        .expect("SHA-256 has 32 bytes");
    *digest
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::pool) const TTL: Duration = Duration::from_secs(600);

    pub(in crate::pool) fn sticky(
        pool: &str,
        hosts: &[&str],
        secret: Option<&str>,
    ) -> StickyTokens {
        let config = config::Sticky {
            cookie: "c".to_owned(),
            ttl: TTL,
            secure: config::Secure::Auto,
            http_only: true,
            same_site: config::SameSite::Lax,
            secret_file: secret.map(|text| config::Secret {
                file: "k".into(),
                bytes: text.into(),
            }),
        };
        let hosts = Vec::from_iter(hosts.iter().map(|id| HostId::from(*id)));
        StickyTokens::new(&config, pool, hosts.iter())
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_token_names_its_host_until_it_expires() {
        let sticky = sticky("web", &["10.0.0.1:80", "10.0.0.2:80"], None);
        let host = HostId::from("10.0.0.2:80");
        let token = sticky.token(&host, at(NOW));
        assert_eq!(token.len(), TEXT_LENGTH);
        let read = |seconds| sticky.read(token.as_bytes(), at(seconds));
        let claim = |needs_renewal| {
            Some(Affinity {
                host: host.clone(),
                needs_renewal,
            })
        };
        assert_eq!(read(NOW), claim(false));
        assert_eq!(read(NOW + 299), claim(false));
        assert_eq!(read(NOW + 300), claim(true));
        assert_eq!(read(NOW + 599), claim(true));
        assert_eq!(read(NOW + 600), None);
        // A clock that was set back.
        assert_eq!(read(NOW - 10_000), claim(false));
        assert_eq!(read(0), claim(false));
    }

    #[test]
    fn tokens_of_other_pools_keys_and_hosts_are_invalid() {
        let hosts = ["a:1", "b:1"];
        let web = sticky("web", &hosts, Some("the secret of the tests"));
        let token = web.token(&HostId::from("b:1"), at(NOW));
        let read = |sticky: &StickyTokens| sticky.read(token.as_bytes(), at(NOW));
        assert!(read(&sticky("web", &hosts, Some("the secret of the tests"))).is_some());
        assert!(read(&sticky("api", &hosts, Some("the secret of the tests"))).is_none());
        assert!(read(&sticky("web", &hosts, Some("another secret of tests"))).is_none());
        assert!(read(&sticky("web", &hosts, None)).is_none());
        assert!(read(&sticky("web", &["a:1"], Some("the secret of the tests"))).is_none());
        let more = ["c:1", "b:1", "a:1"];
        assert!(read(&sticky("web", &more, Some("the secret of the tests"))).is_some());
    }

    #[test]
    fn a_random_key_is_carried_and_a_secret_is_not() {
        let hosts = ["a:1", "b:1"];
        let before = sticky("web", &hosts, None);
        let token = before.token(&HostId::from("b:1"), at(NOW));
        let key = before.random_key().expect("a random key");
        let text = serde_json::to_string(&key).expect("JSON");
        let key: RandomKey = serde_json::from_str(&text).expect("JSON");
        assert_eq!(format!("{key:?}"), "RandomKey");
        let after = sticky("web", &["b:1"], None);
        assert_eq!(after.read(token.as_bytes(), at(NOW)), None);
        after.adopt_key(&key);
        assert!(after.read(token.as_bytes(), at(NOW)).is_some());
        let fixed = sticky("web", &hosts, Some("the secret of the tests"));
        assert_eq!(fixed.random_key(), None);
        fixed.adopt_key(&key);
        assert_eq!(fixed.read(token.as_bytes(), at(NOW)), None);
        assert!(!format!("{fixed:?}").contains("secret of"));
    }

    #[test]
    fn a_token_shows_no_address() {
        let sticky = sticky("web", &["10.0.0.1:80"], None);
        let token = sticky.token(&HostId::from("10.0.0.1:80"), at(NOW));
        let bytes = BASE64URL.decode(&token).expect("base64url");
        let shows = |needle: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
        assert!(!shows(b"10.0") && !shows(&[10, 0, 0, 1]));
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        );
    }

    proptest! {
        #[test]
        fn a_changed_token_is_invalid(position in 0..TEXT_LENGTH, letter in "[A-Za-z0-9_-]") {
            let sticky = sticky("web", &["a:1"], None);
            let token = sticky.token(&HostId::from("a:1"), at(NOW));
            let mut forged = token.clone();
            forged.replace_range(position..=position, &letter);
            prop_assume!(forged != token);
            prop_assert_eq!(sticky.read(forged.as_bytes(), at(NOW)), None);
            prop_assert_eq!(sticky.read(&token.as_bytes()[..position], at(NOW)), None);
        }

        #[test]
        fn random_bytes_are_no_token(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let sticky = sticky("web", &["a:1"], None);
            prop_assert_eq!(sticky.read(&bytes, at(NOW)), None);
        }

        #[test]
        fn random_bytes_of_the_right_length_are_no_token(bytes in prop::collection::vec(any::<u8>(), TEXT_LENGTH)) {
            let sticky = sticky("web", &["a:1"], None);
            prop_assert_eq!(sticky.read(&bytes, at(NOW)), None);
        }
    }
}
