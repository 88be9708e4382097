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

use crate::config;
use ballast_balancer::HostId;

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
    key: ArcSwap<TokenKey>,
}

/// What keys of tokens that are derived from a secret are separated from other keys by.
const PURPOSE: &[u8] = b"ballast sticky key 1\0";

/// A random key in the form in which the pool's replacement takes it over. Debug output hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RandomKey([u8; 32]);

impl fmt::Debug for RandomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomKey")
    }
}

#[derive(Debug)]
struct TokenKey {
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
            Some(secret) => TokenKey::new(&secret.bytes, None, pool, &hosts),
            None => TokenKey::random(RandomKey(rand::random()), pool, &hosts),
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

    /// Derives the key from a secret of several processes, unless the configuration has one: they know each other's tokens.
    pub(super) fn adopt_secret(&self, secret: &[u8]) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&key, &[PURPOSE, self.pool.as_bytes()].concat());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(derived.as_ref());
        self.adopt_key(&RandomKey(bytes));
    }

    /// Continues with the key of the replaced pool, unless the configuration has one.
    pub(super) fn adopt_key(&self, key: &RandomKey) {
        if self.config.secret_file.is_none() {
            let key = TokenKey::random(key.clone(), &self.pool, &self.hosts);
            self.key.store(Arc::new(key));
        }
    }
}

impl TokenKey {
    fn random(key: RandomKey, pool: &str, hosts: &[HostId]) -> Self {
        let bytes = key.0;
        TokenKey::new(&bytes, Some(key), pool, hosts)
    }

    fn new(secret: &[u8], random: Option<RandomKey>, pool: &str, hosts: &[HostId]) -> Self {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let hosts = hosts.iter();
        TokenKey {
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
pub(super) mod tests;
