//! Files with names and hashes of passwords, as `htpasswd -B` writes them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use serde_json::json;

use super::environment::{Environment, without_bom};
use super::schema::{Scalar, file};

/// The costs of hashes. One of 14 takes a second of a processor, and each further step doubles that.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;

/// The longest name, in bytes.
const MAX_NAME: usize = 255;

/// bcrypt's base64. Some programs leave the last bits of a salt, which mean nothing, as they were.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));

/// What the lines of the file should be.
const HINT: &str = "only bcrypt hashes are taken; `htpasswd -nB NAME` makes such a line";

/// The users of a file with the hashes of their passwords. Neither is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordFile {
    /// Where it is.
    pub path: PathBuf,
    users: Arc<HashMap<String, PasswordHash>>,
    highest_cost: u32,
}

/// A bcrypt hash.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PasswordHash {
    /// The logarithm of the number of rounds to the base 2.
    pub(crate) cost: u32,
    pub(crate) salt: [u8; 16],
    pub(crate) hash: [u8; 23],
}

impl PasswordFile {
    /// The hash of a user's password.
    pub(crate) fn hash(&self, name: &[u8]) -> Option<&PasswordHash> {
        self.users.get(str::from_utf8(name).ok()?)
    }

    /// A hash that takes at least as long to check as any in the file.
    pub(crate) fn decoy(&self) -> PasswordHash {
        PasswordHash {
            cost: self.highest_cost,
            salt: [0; 16],
            hash: [0; 23],
        }
    }

    /// The users of a text, one a line.
    ///
    /// # Errors
    /// A line is not a user's, as a sentence for a person.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        let mut lines = HashMap::new();
        let mut highest_cost = *COSTS.start();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // Neither names nor hashes belong into messages, which logs keep.
            let at_line =
                |problem: String| format!("line {number} of `{}`: {problem}", path.display());
            let (name, hash) = user(line).map_err(at_line)?;
            highest_cost = highest_cost.max(hash.cost);
            match users.entry(name.to_owned()) {
                Entry::Vacant(entry) => entry.insert(hash),
                Entry::Occupied(_) => {
                    let first = lines.get(name).copied().unwrap_or(1);
                    return Err(at_line(format!(
                        "line {first} has the same name; remove one of them"
                    )));
                }
            };
            lines.insert(name, number);
        }
        if users.is_empty() {
            return Err(format!(
                "there is no user in `{}`; `htpasswd -B` adds one",
                path.display()
            ));
        }
        Ok(PasswordFile {
            path: path.to_owned(),
            users: Arc::new(users),
            highest_cost,
        })
    }
}

impl fmt::Debug for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PasswordFile").field(&self.path).finish()
    }
}

/// The path of a file with users.
pub(super) fn password_file() -> Scalar<PasswordFile> {
    file(
        "the path of a file with names and bcrypt hashes",
        |path, reader| {
            // Many routes may name the same file.
            let mut files = reader.password_files.borrow_mut();
            let read = || read(&path, reader.environment);
            files.entry(path.clone()).or_insert_with(read).clone()
        },
        |file: &PasswordFile| json!(file.path),
    )
}

fn read(path: &Path, environment: &dyn Environment) -> Result<PasswordFile, String> {
    let content = environment.read(path);
    let content = content.map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let text = str::from_utf8(without_bom(&content))
        .map_err(|_| format!("`{}` is not UTF-8 text", path.display()))?;
    PasswordFile::parse(path, text)
}

/// The name and the hash of a line. What follows a second colon is a comment.
fn user(line: &str) -> Result<(&str, PasswordHash), String> {
    let (name, rest) = line
        .split_once(':')
        .ok_or_else(|| format!("there is no colon after a name; {HINT}"))?;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("the name is not one of 1 to {MAX_NAME} bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err(
            "the name has a control character in it, which no header field may have".to_owned(),
        );
    }
    let hash = rest.split(':').next().unwrap_or_default().trim();
    Ok((name, bcrypt_hash(hash)?))
}

fn bcrypt_hash(text: &str) -> Result<PasswordHash, String> {
    let versions = ["$2a$", "$2b$", "$2y$"];
    let Some(rest) = versions.iter().find_map(|it| text.strip_prefix(it)) else {
        return Err(format!("the password is {}; {HINT}", format_of(text)));
    };
    let parsed = rest.split_once('$').and_then(|(cost, encoded)| {
        let (salt, hash) = encoded.split_at_checked(22)?;
        let is_number = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
        Some(PasswordHash {
            cost: cost.parse().ok().filter(|_| is_number)?,
            salt: BASE64.decode(salt).ok()?.try_into().ok()?,
            hash: BASE64.decode(hash).ok()?.try_into().ok()?,
        })
    });
    let hash = parsed.ok_or_else(|| format!("the bcrypt hash is not whole; {HINT}"))?;
    match COSTS.contains(&hash.cost) {
        true => Ok(hash),
        false => Err(format!(
            "the cost of the bcrypt hash is {}, but one from {} to {} is possible; `htpasswd -nB -C 10 NAME` makes a line with 10",
            hash.cost,
            COSTS.start(),
            COSTS.end()
        )),
    }
}

/// What else a password file may hold.
fn format_of(text: &str) -> &'static str {
    if text.starts_with("$apr1$") {
        "an MD5 hash (apr1)"
    } else if text.starts_with("{SHA}") || text.starts_with("{SSHA}") {
        "a SHA-1 hash"
    } else if text.starts_with('$') {
        "a hash of crypt"
    } else {
        "not a bcrypt hash"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$2y$05$TxhMqHv3kFwzVb8cRkP1aO6aQx/nk0Gr9PrFp6PhCk9pCQGTJ1312";

    fn parse(text: &str) -> Result<PasswordFile, String> {
        PasswordFile::parse(Path::new("users"), text)
    }

    #[test]
    fn comments_and_empty_lines_are_no_users() {
        let text = format!("# users\n\nalice:{HASH}\r\n  bob:{HASH}:of sales\njörg:{HASH}");
        let file = parse(&text).expect("a file");
        for name in ["alice", "bob", "jörg"] {
            assert!(file.hash(name.as_bytes()).is_some(), "{name}");
        }
        for name in ["", "# users", "Alice", "alice:", "\u{0}"] {
            assert!(file.hash(name.as_bytes()).is_none(), "{name}");
        }
        assert!(file.hash(b"\xff").is_none());
    }

    #[test]
    fn the_decoy_has_the_highest_cost() {
        let costly = HASH.replace("$05$", "$11$");
        let text = format!("a:{HASH}\nb:{costly}\nc:{HASH}");
        assert_eq!(parse(&text).expect("a file").decoy().cost, 11);
    }

    #[test]
    fn a_wrong_line_is_named_but_not_shown() {
        let short = &HASH[..59];
        let cheap = HASH.replace("$05$", "$03$");
        let costly = HASH.replace("$05$", "$15$");
        for (line, expected) in [
            ("alice", "line 2 of `users`: there is no colon after a name"),
            (&format!(":{HASH}"), "the name is not one of 1 to 255 bytes"),
            (
                &format!("al\tice:{HASH}"),
                "the name has a control character",
            ),
            (
                "alice:secret",
                "the password is not a bcrypt hash; only bcrypt",
            ),
            ("alice:$apr1$x$y", "the password is an MD5 hash (apr1)"),
            ("alice:{SHA}x", "the password is a SHA-1 hash"),
            ("alice:$6$x$y", "the password is a hash of crypt"),
            (&format!("alice:{short}"), "the bcrypt hash is not whole"),
            (&format!("alice:{HASH}x"), "the bcrypt hash is not whole"),
            (&format!("alice:{cheap}"), "is 3, but one from 4 to 14"),
            (&format!("alice:{costly}"), "is 15, but one from 4 to 14"),
            (&format!("first:{HASH}"), "line 1 has the same name"),
        ] {
            let problem = parse(&format!("first:{HASH}\n{line}")).expect_err(line);
            assert!(problem.contains(expected), "{line}: {problem}");
            assert!(problem.starts_with("line 2 of `users`: "), "{problem}");
            assert!(!problem.contains("alice") && !problem.contains("first"));
            assert!(!problem.contains("secret"), "{problem}");
        }
        for text in ["", "# alice\n"] {
            let problem = parse(text).expect_err("no user");
            assert!(problem.contains("there is no user"), "{problem}");
        }
    }

    #[test]
    fn debug_output_shows_neither_names_nor_hashes() {
        let file = parse(&format!("alice:{HASH}")).expect("a file");
        assert_eq!(format!("{file:?}"), "PasswordFile(\"users\")");
    }

    proptest! {
        /// A line is a user's or refused, whatever is in it, and never shown.
        #[test]
        fn any_line_is_read_or_refused(name in "[a-z]{8}", hash in "(\\$2[abxy]\\$)?[./A-Za-z0-9$é:]{0,62}") {
            if let Err(problem) = parse(&format!("{name}:{hash}")) {
                prop_assert!(!problem.contains(&name), "{problem}");
            }
        }
    }
}
