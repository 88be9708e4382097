//! The keys of session tickets.
//!
//! A key seals tickets for [`ROTATION`] and opens them for as long again, so a ticket is good for its whole life, and what
//! was recorded is safe from a key that is stolen later than that. With a secret the keys are derived from it and from the
//! time, so instances with the same secret have the same keys without talking to each other. Without one they are random,
//! and a successor gets them from its predecessor.
//!
//! A ticket stands for a whole handshake. Listeners that demand something of their clients which others do not, such as a
//! certificate, must not have the same keys as those.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use log::error;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Okm, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// Seconds after which another key is used, and for which a ticket is good. With nonces at random a key may seal 2^32
/// tickets, which is 200,000 each second by all instances together.
pub(super) const ROTATION: u64 = 6 * 60 * 60;

/// A predecessor has keys for at most three times.
const MAX_INHERITED: usize = 3;

const SECRET_LEN: usize = 32;
const NAME_LEN: usize = 16;

/// What keys for one purpose are separated from those for another by.
const PURPOSE: &[u8] = b"ballast session tickets 1";

/// Keys by time.
pub(in crate::server) struct TicketKeys {
    /// What the keys are derived from; `None`: they are random.
    secret: ArcSwapOption<Prk>,
    ring: ArcSwap<KeyRing>,
    /// Held while keys are added.
    rotating: Mutex<()>,
}

/// The keys at a time.
#[derive(Default)]
struct KeyRing {
    /// The epoch of the first key, which seals tickets; `None`: no key may seal yet.
    epoch: Option<u64>,
    keys: Vec<Arc<TicketKey>>,
}

/// A key.
struct TicketKey {
    /// The number of its time since 1970, in units of [`ROTATION`].
    epoch: u64,
    /// Tickets begin with it.
    name: [u8; NAME_LEN],
    secret: [u8; SECRET_LEN],
    aead: LessSafeKey,
}

/// A key as a successor gets it.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::server) struct TicketSecret {
    epoch: u64,
    /// In Base64.
    secret: String,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the keys.
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketSecret")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl TicketKeys {
    /// Random keys; first those of a predecessor, if there was one.
    pub(in crate::server) fn random(inherited: &[TicketSecret]) -> Self {
        let keys = inherited.iter().filter_map(|inherited| {
            let secret = BASE64_STANDARD.decode(&inherited.secret).ok()?;
            let key = TicketKey::new(inherited.epoch, secret.try_into().ok()?)?;
            Some(Arc::new(key))
        });
        let keys: Vec<Arc<TicketKey>> = keys.take(MAX_INHERITED).collect();
        TicketKeys {
            secret: ArcSwapOption::empty(),
            ring: ArcSwap::from_pointee(KeyRing {
                epoch: keys.first().map(|key| key.epoch),
                keys,
            }),
            rotating: Mutex::new(()),
        }
    }

    /// Keys from a secret. What was sealed with `earlier` ones can still be opened.
    pub(super) fn of_secret(secret: &[u8], earlier: Option<&TicketKeys>) -> Self {
        let earlier = earlier.map(|earlier| earlier.ring.load().keys.clone());
        TicketKeys {
            secret: ArcSwapOption::from_pointee(prk(secret)),
            ring: ArcSwap::from_pointee(KeyRing {
                epoch: None,
                keys: earlier.unwrap_or_default(),
            }),
            rotating: Mutex::new(()),
        }
    }

    /// Derives the keys from a secret from now on. What was sealed before can still be opened.
    pub(in crate::server) fn adopt_secret(&self, secret: &[u8]) {
        // No update under this lock can be left half done, so a poisoned lock is usable.
        let _guard = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        self.secret.store(Some(Arc::new(prk(secret))));
        self.ring.store(Arc::new(KeyRing {
            epoch: None,
            keys: self.ring.load().keys.clone(),
        }));
    }

    /// The keys for a successor, which are in use from now on.
    pub(in crate::server) fn export(&self, now: u64) -> Vec<TicketSecret> {
        let ring = self.current(now / ROTATION);
        let keys = ring.keys.iter();
        keys.map(|key| TicketSecret {
            epoch: key.epoch,
            secret: BASE64_STANDARD.encode(key.secret),
        })
        .collect()
    }

    /// A ticket with this content; `None`: the system has no random numbers.
    pub(super) fn seal(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        let epoch = now / ROTATION;
        let ring = self.current(epoch);
        let key = ring.keys.first().filter(|key| key.epoch == epoch)?;
        // A counter would tell how busy the server is, and differ between instances.
        let nonce = random::<NONCE_LEN>()?;
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + plain.len() + 16);
        ticket.extend(key.name);
        ticket.extend(nonce);
        let begin = ticket.len();
        ticket.extend(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (aad, sealed) = (Aad::from(key.name), &mut ticket[begin..]);
        let tag = key.aead.seal_in_place_separate_tag(nonce, aad, sealed);
        ticket.extend(tag.ok()?.as_ref());
        Some(ticket)
    }

    /// The content of a ticket; `None`: its key is not known any more, or never was.
    pub(super) fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let epoch = now / ROTATION;
        let ring = self.current(epoch);
        let mut valid = ring
            .keys
            .iter()
            .filter(|key| key.epoch.abs_diff(epoch) <= 1);
        let key = valid.find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let opened = key
            .aead
            .open_in_place(nonce, Aad::from(key.name), &mut plain);
        let length = opened.ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    /// The keys, the first of which is for this time.
    fn current(&self, epoch: u64) -> Arc<KeyRing> {
        let ring = self.ring.load_full();
        match ring.epoch == Some(epoch) {
            true => ring,
            false => self.rotate(epoch),
        }
    }

    fn rotate(&self, epoch: u64) -> Arc<KeyRing> {
        // No update under this lock can be left half done, so a poisoned lock is usable.
        let _guard = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.ring.load_full();
        if before.epoch == Some(epoch) {
            return before;
        }
        let mut keys = self.new_keys(&before, epoch);
        for key in &before.keys {
            let is_known = keys.iter().any(|known| known.name == key.name);
            if key.epoch.abs_diff(epoch) <= 1 && !is_known {
                keys.push(Arc::clone(key));
            }
        }
        let ring = Arc::new(KeyRing {
            epoch: Some(epoch),
            keys,
        });
        self.ring.store(Arc::clone(&ring));
        ring
    }

    /// The keys of ours for a time, that which seals first.
    fn new_keys(&self, before: &KeyRing, epoch: u64) -> Vec<Arc<TicketKey>> {
        let added = match self.secret.load().as_deref() {
            // The clock may have been set back.
            None => match before.keys.iter().find(|key| key.epoch == epoch) {
                Some(known) => return vec![Arc::clone(known)],
                None => vec![(epoch, random())],
            },
            // Those before and after are derived as well: another instance's clock may be behind or ahead.
            Some(secret) => [epoch, epoch.saturating_sub(1), epoch + 1]
                .map(|epoch| (epoch, derived(secret, epoch)))
                .to_vec(),
        };
        let added = added.into_iter();
        let keys = added.filter_map(|(epoch, secret)| TicketKey::new(epoch, secret?));
        let keys = Vec::from_iter(keys.map(Arc::new));
        if keys.is_empty() {
            error!(
                "the system has no random numbers; there are no session tickets for {ROTATION} s"
            );
        }
        keys
    }
}

impl TicketKey {
    fn new(epoch: u64, secret: [u8; SECRET_LEN]) -> Option<Self> {
        let pseudorandom = Prk::new_less_safe(HKDF_SHA256, &secret);
        let key: [u8; SECRET_LEN] = expand(&pseudorandom, &[b"key"])?;
        Some(TicketKey {
            epoch,
            name: expand(&pseudorandom, &[b"name"])?,
            secret,
            aead: LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?),
        })
    }
}

fn prk(secret: &[u8]) -> Prk {
    Salt::new(HKDF_SHA256, PURPOSE).extract(secret)
}

/// The secret of a key that is derived.
fn derived(secret: &Prk, epoch: u64) -> Option<[u8; SECRET_LEN]> {
    expand(secret, &[b"epoch", &epoch.to_be_bytes()])
}

/// A length of output of the key derivation.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fails only for lengths beyond 8,160 bytes.
fn expand<const N: usize>(secret: &Prk, info: &[&[u8]]) -> Option<[u8; N]> {
    let output: Okm<'_, Length> = secret.expand(info, Length(N)).ok()?;
    let mut bytes = [0; N];
    output.fill(&mut bytes).ok()?;
    Some(bytes)
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a time far from 1970.
    const START: u64 = 80_000 * ROTATION;
    const PLAIN: &[u8] = b"a session";

    fn sealed(keys: &TicketKeys, now: u64) -> Vec<u8> {
        keys.seal(PLAIN, now).unwrap()
    }

    fn opens(keys: &TicketKeys, ticket: &[u8], now: u64) -> bool {
        let opened = keys.open(ticket, now);
        assert!(opened.as_deref().is_none_or(|opened| opened == PLAIN));
        opened.is_some()
    }

    #[test]
    fn a_ticket_is_good_for_its_life_and_less_than_twice_that() {
        for keys in [
            TicketKeys::random(&[]),
            TicketKeys::of_secret(b"0123456789abcdef", None),
        ] {
            for sealed_at in [START, START + ROTATION - 1] {
                let ticket = sealed(&keys, sealed_at);
                assert!(opens(&keys, &ticket, sealed_at));
                assert!(opens(&keys, &ticket, sealed_at + ROTATION));
                assert!(!opens(&keys, &ticket, sealed_at + 2 * ROTATION));
            }
        }
    }

    #[test]
    fn instances_with_the_same_secret_open_each_others_tickets() {
        let keys = |secret: &[u8]| TicketKeys::of_secret(secret, None);
        let (one, other) = (keys(b"0123456789abcdef"), keys(b"0123456789abcdef"));
        let ticket = sealed(&one, START);
        assert!(opens(&other, &ticket, START + ROTATION));
        assert!(opens(&other, &ticket, START - 1), "its clock is behind");
        assert!(!opens(&keys(b"another secret.."), &ticket, START));
        assert!(!opens(&TicketKeys::random(&[]), &ticket, START));
    }

    #[test]
    fn a_secret_can_be_adopted_later() {
        let [one, other] = [(); 2].map(|()| TicketKeys::random(&[]));
        let old = sealed(&one, START);
        for keys in [&one, &other] {
            keys.adopt_secret(b"0123456789abcdef");
        }
        assert!(opens(&other, &sealed(&one, START), START));
        assert!(opens(&one, &old, START) && !opens(&other, &old, START));
    }

    #[test]
    fn a_successor_opens_the_tickets_of_its_predecessor() {
        let predecessor = TicketKeys::random(&[]);
        let old = sealed(&predecessor, START - 1);
        let inherited = serde_json::to_value(predecessor.export(START)).unwrap();
        let inherited: Vec<TicketSecret> = serde_json::from_value(inherited).unwrap();
        assert!(!format!("{inherited:?}").contains(&inherited[0].secret));
        let successor = TicketKeys::random(&inherited);
        assert!(opens(&successor, &old, START));
        assert!(opens(&successor, &sealed(&predecessor, START), START));
        assert!(opens(&predecessor, &sealed(&successor, START), START));
        let wrong = TicketSecret {
            epoch: u64::MAX,
            secret: "AAAA".to_owned(),
        };
        assert!(TicketKeys::random(&[wrong]).seal(PLAIN, START).is_some());
    }

    #[test]
    fn with_another_secret_old_tickets_stay_good_until_they_expire() {
        let old = TicketKeys::of_secret(b"the old secret..", None);
        let before = sealed(&old, START);
        let new = TicketKeys::of_secret(b"the new secret..", Some(&old));
        assert!(opens(&new, &before, START + ROTATION));
        assert!(!opens(&new, &before, START + 2 * ROTATION));
        assert!(!opens(&old, &sealed(&new, START), START));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_further_keys() {
        let keys = TicketKeys::random(&[]);
        let first = sealed(&keys, START);
        for _ in 0..10 {
            sealed(&keys, START + ROTATION);
            sealed(&keys, START);
        }
        assert!(opens(&keys, &first, START));
        assert_eq!(keys.ring.load().keys.len(), 2);
    }

    #[test]
    fn changed_tickets_are_refused() {
        let keys = TicketKeys::random(&[]);
        let ticket = sealed(&keys, START);
        assert_ne!(ticket, sealed(&keys, START), "the nonce differs");
        for length in 0..ticket.len() {
            assert!(!opens(&keys, &ticket[..length], START));
            let mut changed = ticket.clone();
            changed[length] ^= 1;
            assert!(!opens(&keys, &changed, START));
        }
    }
}
