//! Where lines go: a file that is appended to, a pipe, a device.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use memchr::{memchr, memchr_iter, memrchr};
use nix::unistd::{AccessFlags, access};
use rustix::event::{PollFd, PollFlags, poll};

use crate::config::LogTarget;

/// What a pipe takes as a whole, whoever else writes to it (PIPE_BUF of Linux).
const PIECE: usize = 4_096;

/// What lines tell is nobody's business but the operator's.
const MODE: u32 = 0o640;

/// An open file. Others may append to it as well, such as a predecessor of this process; no line of theirs stands in one
/// of ours, unless it is longer than 4 KiB and goes to a pipe.
#[derive(Debug)]
pub(super) struct Sink {
    target: LogTarget,
    file: File,
    /// The most bytes that nobody else can write amid.
    whole: usize,
    /// Whether what was last written is the beginning of a line.
    torn: bool,
}

/// Why lines were not written.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl Sink {
    /// Opens `target`.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn open(target: &LogTarget) -> Result<Self, String> {
        let failed = |error: io::Error| format!("access_log.path: cannot open {target}: {error}");
        let file = match target {
            LogTarget::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            LogTarget::File(path) => open(path),
        };
        let file = file.map_err(failed)?;
        let is_file = file.metadata().map_err(failed)?.is_file();
        Ok(Sink {
            target: target.clone(),
            file,
            whole: if is_file { usize::MAX } else { PIECE },
            torn: false,
        })
    }

    /// Opens the file of the same path, which may be another one by now. The old one stays if that fails.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        if self.target != LogTarget::Stdout {
            *self = Sink::open(&self.target)?;
        }
        Ok(())
    }

    /// Writes whole lines, and waits as long as that takes.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let mut written = 0;
        let outcome =
            pieces(lines, self.whole).try_for_each(|piece| self.write_piece(piece, &mut written));
        outcome.map_err(|error| {
            let left = &lines[written..];
            self.torn |= written > 0 && lines[written - 1] != b'\n';
            Unwritten {
                lines: memchr_iter(b'\n', left).count() as u64,
                error,
            }
        })
    }

    /// Writes as a whole what can be so written, and adds to `written` what was.
    fn write_piece(&mut self, piece: &[u8], written: &mut usize) -> io::Result<()> {
        if self.torn {
            self.write_some(b"\n")?;
            self.torn = false;
        }
        let mut left = piece;
        while !left.is_empty() {
            let count = self.write_some(left)?;
            *written += count;
            left = &left[count..];
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Whoever shares the standard output may have set it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None)?;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Opens a file to append to.
fn open(path: &Path) -> io::Result<File> {
    // A FIFO that is open for reading as well neither waits for its reader nor fails once that has gone.
    let is_fifo = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    OpenOptions::new()
        .read(is_fifo)
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)
}

/// Whether `target` could be opened; a file that is not there is not made.
///
/// # Errors
/// One line for a person.
pub fn check(target: &LogTarget) -> Result<(), String> {
    match target {
        LogTarget::File(path) if !path.exists() => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let may_write = access(folder, AccessFlags::W_OK | AccessFlags::X_OK);
            may_write.map_err(|error| {
                let folder = folder.display();
                format!(
                    "access_log.path: cannot make {target} in `{folder}`: {}",
                    error.desc()
                )
            })
        }
        target => Sink::open(target).map(drop),
    }
}

/// Lines in pieces of whole lines, as long as can be up to `most` bytes; a longer line is a piece of its own.
fn pieces(mut lines: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let last = match lines {
            [] => return None,
            lines if lines.len() <= most => None,
            lines => memrchr(b'\n', &lines[..most]).or_else(|| memchr(b'\n', lines)),
        };
        let (piece, rest) = lines.split_at(last.map_or(lines.len(), |last| last + 1));
        lines = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_lines() {
        let cut = |lines: &'static str, most| {
            let pieces = pieces(lines.as_bytes(), most);
            Vec::from_iter(pieces.map(|piece| str::from_utf8(piece).expect("text")))
        };
        assert_eq!(cut("", 4), [""; 0]);
        assert_eq!(cut("a\nb\n", 4), ["a\nb\n"]);
        assert_eq!(cut("a\nb\nc\n", 4), ["a\nb\n", "c\n"]);
        assert_eq!(cut("a\nbcd\ne\n", 4), ["a\n", "bcd\n", "e\n"]);
        assert_eq!(cut("abcdef\ng\n", 4), ["abcdef\n", "g\n"]);
        assert_eq!(cut("a\nb\n", usize::MAX), ["a\nb\n"]);
    }

    #[test]
    fn lines_that_a_device_does_not_take_are_counted() {
        let target = LogTarget::File("/dev/full".into());
        let mut sink = Sink::open(&target).expect("it is there");
        let failed = sink.write(b"a\nb\nc\n").expect_err("it is full");
        assert_eq!(failed.lines, 3);
        assert!(!sink.torn);
    }

    #[test]
    fn a_line_that_was_torn_is_ended_before_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut sink = Sink::open(&LogTarget::File(path.clone())).expect("it can be made");
        sink.write(b"whole\n").expect("written");
        sink.torn = true;
        sink.write(b"next\n").expect("written");
        sink.write(b"last\n").expect("written");
        let content = fs::read_to_string(path).expect("it is there");
        assert_eq!(content, "whole\n\nnext\nlast\n");
    }
}
