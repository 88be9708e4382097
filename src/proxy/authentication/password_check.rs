//! Checks passwords against bcrypt hashes, on threads of their own.
//!
//! A check takes a processor for many milliseconds, and browsers send the password with each request. So credentials that
//! were right are remembered for a while, few checks run at a time, and few requests wait for one: a flood of wrong
//! passwords delays other passwords, but no other requests.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::verified_cache::VerifiedCache;
use crate::config::{PasswordFile, PasswordHash};
use crate::message::BasicCredentials;

/// Requests that may wait for a check, beside those that run.
const MAX_WAITING: usize = 64;

/// How long a request waits at most for its check to begin.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The longest password in bytes: bcrypt does not look at more.
const MAX_PASSWORD: usize = 72;

/// What is found about credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// Too many checks are running and waiting.
    Busy,
}

/// Checks the passwords of all routes.
#[derive(Debug)]
pub(crate) struct PasswordChecker {
    /// One permit for each check that runs.
    running: Arc<Semaphore>,
    /// One permit for each request that has or awaits a check.
    admitted: Semaphore,
    verified: VerifiedCache,
}

/// One run of bcrypt, and whether a match counts.
struct Check {
    hash: PasswordHash,
    /// The password with a zero byte at its end, as bcrypt takes it, of at most 72 bytes.
    key: Vec<u8>,
    counts: bool,
}

impl Default for PasswordChecker {
    fn default() -> Self {
        // The other half is left to requests without passwords.
        let processors = available_parallelism().map_or(1, |count| count.get().div_ceil(2));
        PasswordChecker {
            running: Arc::new(Semaphore::new(processors)),
            admitted: Semaphore::new(processors + MAX_WAITING),
            verified: VerifiedCache::default(),
        }
    }
}

impl PasswordChecker {
    /// Whether the file has a user with this name and password.
    pub(crate) async fn check(&self, file: &PasswordFile, claimed: &BasicCredentials) -> Verdict {
        let check = Check::new(file, claimed);
        let tag = check
            .counts
            .then(|| self.verified.tag(&check.hash, claimed));
        let is_verified = || tag.is_some_and(|tag| self.verified.contains(&tag, Instant::now()));
        if is_verified() {
            return Verdict::Right;
        }
        let Ok(_admitted) = self.admitted.try_acquire() else {
            return Verdict::Busy;
        };
        let permit = timeout(MAX_WAIT, Arc::clone(&self.running).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Verdict::Busy;
        };
        // A browser sends several requests at once, and the first one may have been checked by now.
        if is_verified() {
            return Verdict::Right;
        }
        // A check runs to its end even if the client leaves, and holds its permit as long.
        let checked = spawn_blocking(move || {
            let is_right = check.run();
            drop(permit);
            is_right
        });
        match (checked.await, tag) {
            (Ok(true), Some(tag)) => {
                self.verified.insert(tag, Instant::now());
                Verdict::Right
            }
            (Ok(_), _) => Verdict::Wrong,
            // The process ends.
            (Err(_), _) => Verdict::Busy,
        }
    }
}

impl Check {
    /// A name that is not in the file, and a password that cannot be right, are checked like all others, so that the time
    /// does not tell them apart. Names whose hashes have a lower cost than others in the file are checked sooner.
    fn new(file: &PasswordFile, claimed: &BasicCredentials) -> Self {
        let known = file.hash(&claimed.name);
        let password = &claimed.password;
        // bcrypt would take such a password for a shorter one.
        let is_whole = password.len() <= MAX_PASSWORD && !password.contains(&0);
        let mut key = password.clone();
        key.push(0);
        key.truncate(MAX_PASSWORD);
        Check {
            counts: known.is_some() && is_whole,
            hash: known.cloned().unwrap_or_else(|| file.decoy()),
            key,
        }
    }

    fn run(&self) -> bool {
        let PasswordHash { cost, salt, hash } = &self.hash;
        let computed = bcrypt::bcrypt(*cost, *salt, &self.key);
        // The last of the 24 bytes is in no file.
        let is_equal = bool::from(computed[..hash.len()].ct_eq(hash));
        is_equal & self.counts
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `secret`, the empty password and 72 times `x`, by libxcrypt.
    const USERS: &str = "
        alice:$2y$04$TxhMqHv3kFwzVb8cRkP1aO6aQx/nk0Gr9PrFp6PhCk9pCQGTJ1312
        empty:$2b$04$q0Yt5mBnLr7uXs2dEw9GfOU/m.aKeYEXzOvayo9yNjQ9Pdh8W31Dm
        longest:$2a$04$Zk4nPw6sHd8jLc1vBg3NyOsqKl.aPJixORHs0BcSUus69PyzLPyra
    ";

    fn file() -> PasswordFile {
        PasswordFile::parse(Path::new("users"), USERS).expect("users")
    }

    fn claimed(name: &str, password: &str) -> BasicCredentials {
        BasicCredentials {
            name: name.into(),
            password: password.into(),
        }
    }

    #[test]
    fn only_the_whole_password_is_right() {
        let longest = "x".repeat(MAX_PASSWORD);
        for (name, password, expected) in [
            ("alice", "secret", true),
            ("alice", "secret ", false),
            ("alice", "secre", false),
            ("alice", "Secret", false),
            ("alice", "secret\0", false),
            ("alice", "secret\0secret", false),
            ("alice", "", false),
            ("bob", "secret", false),
            ("", "secret", false),
            ("empty", "", true),
            ("empty", "\0", false),
            ("longest", &longest, true),
            ("longest", &longest[1..], false),
            ("longest", &format!("{longest}x"), false),
            ("longest", &format!("{longest}\0"), false),
        ] {
            let check = Check::new(&file(), &claimed(name, password));
            assert_eq!(check.run(), expected, "{name}: {password:?}");
        }
    }

    #[test]
    fn unknown_names_and_impossible_passwords_take_the_same_run() {
        let file = file();
        let known = Check::new(&file, &claimed("alice", "wrong"));
        let unknown = Check::new(&file, &claimed("carol", "wrong"));
        assert_eq!(known.hash.cost, unknown.hash.cost);
        assert_eq!(known.key, unknown.key);
        assert!(known.counts && !unknown.counts);
        let long = Check::new(&file, &claimed("alice", &"x".repeat(10_000)));
        assert_eq!(long.key.len(), MAX_PASSWORD);
        assert!(long.hash == known.hash && !long.counts);
    }

    #[tokio::test]
    async fn right_credentials_are_remembered_and_wrong_ones_are_not() {
        let (checker, file) = (PasswordChecker::default(), file());
        assert_eq!(
            checker.check(&file, &claimed("alice", "wrong")).await,
            Verdict::Wrong
        );
        assert_eq!(
            checker.check(&file, &claimed("alice", "secret")).await,
            Verdict::Right
        );
        // No check can begin any more.
        checker.running.close();
        assert_eq!(
            checker.check(&file, &claimed("alice", "secret")).await,
            Verdict::Right
        );
        assert_eq!(
            checker.check(&file, &claimed("alice", "wrong")).await,
            Verdict::Busy
        );
        assert_eq!(
            checker.check(&file, &claimed("bob", "secret")).await,
            Verdict::Busy
        );
    }

    #[tokio::test]
    async fn few_requests_wait_for_a_check() {
        let (checker, file) = (PasswordChecker::default(), file());
        let permits = checker.admitted.available_permits();
        let all = checker
            .admitted
            .try_acquire_many(permits as u32)
            .expect("they are free");
        assert_eq!(
            checker.check(&file, &claimed("alice", "secret")).await,
            Verdict::Busy
        );
        drop(all);
        assert_eq!(
            checker.check(&file, &claimed("alice", "secret")).await,
            Verdict::Right
        );
        assert_eq!(checker.admitted.available_permits(), permits);
    }
}
