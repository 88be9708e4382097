//! A finished request as one line of the `debug` log.

use std::fmt::{self, Display, Formatter};

use super::RequestRecord;

/// The maximum number of bytes of a method or a target that are shown.
const MAX_LENGTH: usize = 256;

/// A record as one line: the request, the client, each attempt with its host and the reason for its selection, and the
/// result.
pub(crate) struct DebugLine<'a>(pub(crate) &'a RequestRecord<'a>);

impl Display for DebugLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let record = self.0;
        let summary = &record.summary;
        match record.request {
            Some(request) => write!(
                f,
                "{} {}{}",
                Escaped(request.method.as_str().as_bytes()),
                Escaped(record.authority().unwrap_or_default()),
                Escaped(request.uri()),
            )?,
            None => f.write_str("no request")?,
        }
        match summary.client {
            Some(client) => write!(f, " from {client}")?,
            None => f.write_str(" from a Unix socket")?,
        }
        match record.pool {
            Some((_, pool)) => write!(f, ", pool {}", pool.name())?,
            None => f.write_str(", no pool")?,
        }
        for (number, attempt) in record.attempts.iter().enumerate() {
            write!(
                f,
                ", attempt {}: host {} ({}): {}",
                number + 1,
                attempt.host,
                attempt.selection_reason,
                attempt.outcome.code(),
            )?;
        }
        match summary.status {
            Some(status) => write!(f, ", status {status}")?,
            None => f.write_str(", no status")?,
        }
        write!(
            f,
            " in {:?}, {}",
            summary.duration,
            summary.termination.code()
        )
    }
}

/// Bytes from a client, escaped to visible characters and truncated to [`MAX_LENGTH`].
struct Escaped<'a>(&'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (shown, rest) = self.0.split_at(self.0.len().min(MAX_LENGTH));
        write!(f, "{}", shown.escape_ascii())?;
        match rest.len() {
            0 => Ok(()),
            bytes => write!(f, "… ({bytes} bytes more)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_bytes_are_escaped_and_truncated() {
        assert_eq!(Escaped(b"/a?b=\x1b[31m\n").to_string(), "/a?b=\\x1b[31m\\n");
        let long = Escaped(&[b'a'; 20_000]).to_string();
        assert!(long.ends_with("a… (19744 bytes more)"), "{long}");
    }
}
