//! The output of an access log: an appended file, a pipe or a device.

use std::cmp::Ordering;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use memchr::{memchr, memchr_iter, memrchr};
use nix::unistd::{AccessFlags, access};
use rustix::event::{PollFd, PollFlags, poll};

use crate::config::LogTarget;

/// A pipe writes up to this many bytes atomically, even with several writers (PIPE_BUF of Linux).
const PIPE_BUF: usize = 4_096;

/// Ends a line.
const NEWLINE: &[u8] = b"\n";

/// The mode of a new file: only the operator may read the lines.
const MODE: u32 = 0o640;

/// An open log. Other processes may append to it as well, such as the predecessor of this process. Their lines never
/// split one of ours, unless it is longer than 4 KiB and goes to a pipe.
#[derive(Debug)]
pub(super) struct LogFile<O = File> {
    target: LogTarget,
    out: O,
    /// The maximum size of an atomic write.
    max_atomic: usize,
    /// The last line, if only its beginning was written; `None` after whole lines.
    partial: Option<PartialLine>,
}

/// A sink for bytes.
pub(super) trait Output {
    /// Writes at least one of `bytes`. Blocks as long as necessary.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// The length of a regular file; `None` for anything else.
    fn length(&self) -> Option<u64>;
}

/// The unwritten rest of a line.
#[derive(Debug)]
struct PartialLine {
    rest: Vec<u8>,
    /// The length of the file after the written part.
    end: Option<u64>,
}

/// Lines were not written.
#[derive(Debug)]
pub(super) struct WriteError {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl LogFile {
    /// Opens `target`.
    ///
    /// # Errors
    /// A message of one line.
    pub(super) fn open(target: &LogTarget) -> Result<Self, String> {
        let failed = |error: io::Error| format!("access_log.path: cannot open {target}: {error}");
        let file = match target {
            LogTarget::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            LogTarget::File(path) => open(path),
        };
        let file = file.map_err(failed)?;
        let is_file = file.metadata().map_err(failed)?.is_file();
        Ok(LogFile {
            target: target.clone(),
            out: file,
            max_atomic: if is_file { usize::MAX } else { PIPE_BUF },
            partial: None,
        })
    }

    /// Opens the path again, which may be another file by now. The old file stays open if that fails. Returns the
    /// number of lost lines: one if the rest of a partly written line does not fit into the old file.
    ///
    /// # Errors
    /// A message of one line.
    pub(super) fn reopen(&mut self) -> Result<u64, String> {
        if self.target == LogTarget::Stdout {
            return Ok(0);
        }
        let mut new = LogFile::open(&self.target)?;
        let mut lost = 0;
        if self.finish_line(&mut lost).is_err() {
            match is_same(&self.out, &new.out) {
                true => new.partial = self.partial.take(),
                false => lost += u64::from(self.partial.is_some()),
            }
        }
        *self = new;
        Ok(lost)
    }
}

impl<O: Output> LogFile<O> {
    /// Writes whole lines; blocks as long as necessary. If a line is written only in part, its rest is kept and written
    /// first once there is space, so that no other line follows a partial one.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        let mut lost = 0;
        let mut remaining = lines;
        let outcome = self
            .finish_line(&mut lost)
            .and_then(|()| self.write_lines(&mut remaining));
        let error = match outcome {
            Ok(()) if lost == 0 => return Ok(()),
            Ok(()) => io::Error::other("the file was truncated within a line"),
            Err(error) => error,
        };
        Err(WriteError {
            lines: lost + count_lines(remaining),
            error,
        })
    }

    /// Writes the rest of a partly written line. The line is lost if its beginning is no longer the end of the file.
    fn finish_line(&mut self, lost: &mut u64) -> io::Result<()> {
        let Some(PartialLine { rest, end }) = self.partial.take() else {
            return Ok(());
        };
        let now = self.out.length();
        let mut remaining = match now.cmp(&end) {
            Ordering::Equal => &rest[..],
            // An empty file was truncated, by a rotation that copies, and starts anew. In a file that was cut shorter,
            // the last line is ended, so that no other line continues it.
            Ordering::Less if now == Some(0) => b"",
            Ordering::Less => NEWLINE,
            // Another process has appended, and ends its own lines.
            Ordering::Greater => b"",
        };
        if now != end && rest != NEWLINE {
            *lost += 1;
        }
        let outcome = write_all(&mut remaining, &mut self.out);
        if outcome.is_err() {
            self.keep_partial(remaining);
        }
        outcome
    }

    /// Writes the lines in atomic pieces. `remaining` keeps the lines that were not begun.
    fn write_lines(&mut self, remaining: &mut &[u8]) -> io::Result<()> {
        while let Some(piece) = pieces(remaining, self.max_atomic).next() {
            let mut unwritten = piece;
            let outcome = write_all(&mut unwritten, &mut self.out);
            let begun = piece.len() - unwritten.len();
            *remaining = &remaining[begun..];
            if let Err(error) = outcome {
                if begun > 0 && piece[begun - 1] != b'\n' {
                    let line = memchr(b'\n', remaining).map_or(remaining.len(), |end| end + 1);
                    let (rest, others) = remaining.split_at(line);
                    self.keep_partial(rest);
                    *remaining = others;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Keeps the rest of a partly written line.
    fn keep_partial(&mut self, rest: &[u8]) {
        self.partial = Some(PartialLine {
            rest: rest.to_vec(),
            end: self.out.length(),
        });
    }
}

fn is_same(one: &File, other: &File) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr_iter(b'\n', lines).count() as u64
}

/// Writes all of `remaining`; on an error, `remaining` is the unwritten rest.
fn write_all(remaining: &mut &[u8], out: &mut impl Output) -> io::Result<()> {
    while !remaining.is_empty() {
        let count = out.write_some(remaining)?;
        *remaining = &remaining[count..];
    }
    Ok(())
}

impl Output for File {
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the standard output may have made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&*self, PollFlags::OUT)], None)?;
                }
                outcome => return outcome,
            }
        }
    }

    fn length(&self) -> Option<u64> {
        let found = self.metadata().ok()?;
        found.is_file().then_some(found.len())
    }
}

/// Opens a file for appending.
fn open(path: &Path) -> io::Result<File> {
    // A FIFO that is also open for reading neither blocks until a reader comes nor fails once the reader is gone.
    let is_fifo = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    OpenOptions::new()
        .read(is_fifo)
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)
}

/// Checks whether `target` can be opened, without creating a missing file.
///
/// # Errors
/// A message of one line.
pub fn check_writable(target: &LogTarget) -> Result<(), String> {
    match target {
        LogTarget::File(path) if !path.exists() => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let may_write = access(folder, AccessFlags::W_OK | AccessFlags::X_OK);
            may_write.map_err(|error| {
                let folder = folder.display();
                format!(
                    "access_log.path: cannot create {target} in `{folder}`: {}",
                    error.desc()
                )
            })
        }
        target => LogFile::open(target).map(drop),
    }
}

/// Splits lines into pieces of whole lines, each as long as possible up to `max` bytes; a longer line is its own piece.
fn pieces(mut lines: &[u8], max: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let last = match lines {
            [] => return None,
            lines if lines.len() <= max => None,
            lines => memrchr(b'\n', &lines[..max]).or_else(|| memchr(b'\n', lines)),
        };
        let (piece, rest) = lines.split_at(last.map_or(lines.len(), |last| last + 1));
        lines = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_are_whole_lines() {
        let cut = |lines: &'static str, max| {
            let pieces = pieces(lines.as_bytes(), max);
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
    fn lines_that_a_device_refuses_are_counted() {
        let target = LogTarget::File("/dev/full".into());
        let mut file = LogFile::open(&target).expect("it is there");
        let failed = file.write(b"a\nb\nc\n").expect_err("it is full");
        assert_eq!(failed.lines, 3);
        assert!(file.partial.is_none());
    }

    /// A disk with limited space, which accepts at most `max` bytes per write.
    #[derive(Debug, Default)]
    struct Disk {
        content: Vec<u8>,
        free: usize,
        /// The maximum number of bytes per write.
        max: usize,
    }

    impl Output for Disk {
        fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.free).min(self.max);
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.content.extend_from_slice(&bytes[..count]);
            self.free -= count;
            Ok(count)
        }

        fn length(&self) -> Option<u64> {
            Some(self.content.len() as u64)
        }
    }

    fn file_on(disk: Disk) -> LogFile<Disk> {
        LogFile {
            target: LogTarget::Stdout,
            out: disk,
            max_atomic: usize::MAX,
            partial: None,
        }
    }

    proptest! {
        /// Whenever the disk is full, lines stay whole and in order, except the end of the last one, and each missing
        /// line is counted.
        #[test]
        fn lines_stay_whole_on_a_full_disk(
            steps in vec((0..60_usize, 1..20_usize, 1..5_usize), 1..40),
        ) {
            let mut file = file_on(Disk::default());
            let (mut number, mut lost) = (0, 0);
            for (free, max, lines) in steps {
                (file.out.free, file.out.max) = (free, max);
                let text = String::from_iter((0..lines).map(|_| {
                    number += 1;
                    format!("<{number}>\n")
                }));
                if let Err(unwritten) = file.write(text.as_bytes()) {
                    lost += unwritten.lines;
                }
            }
            (file.out.free, file.out.max) = (100, 100);
            file.write(b"<end>\n").expect("enough space");
            let content = str::from_utf8(&file.out.content).expect("text");
            let whole = content.lines().all(|line| line.starts_with('<') && line.ends_with('>'));
            prop_assert!(whole && content.ends_with('\n'), "{content}");
            prop_assert_eq!(content.lines().count() as u64 + lost, number + 1);
            let mut numbers = content.lines().filter_map(|line| line[1..line.len() - 1].parse::<u64>().ok());
            let mut last = 0;
            prop_assert!(numbers.all(|number| std::mem::replace(&mut last, number) < number));
        }
    }

    #[test]
    fn a_partial_line_is_lost_if_its_beginning_was_truncated() {
        let mut file = file_on(Disk {
            free: 8,
            max: 100,
            ..Disk::default()
        });
        let failed = file
            .write(b"first\nsecond\nthird\n")
            .expect_err("it is full");
        assert_eq!(failed.lines, 1, "the second one waits");
        file.out.content.clear();
        file.out.free = 100;
        let lost = file.write(b"next\n").expect_err("the second one is lost");
        assert_eq!(lost.lines, 1);
        assert_eq!(file.out.content, b"next\n");
    }

    #[test]
    fn a_reopened_file_gets_the_rest_of_its_last_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = LogFile::open(&LogTarget::File(path.clone())).expect("it can be made");
        file.out.write_all(b"whole\nbegi").expect("written");
        file.keep_partial(b"nning\n");
        let old = folder.path().join("log.1");
        fs::rename(&path, &old).expect("renamed");
        assert_eq!(file.reopen(), Ok(0));
        file.write(b"next\n").expect("written");
        let content = |path| fs::read_to_string(path).expect("it is there");
        assert_eq!(content(old), "whole\nbeginning\n");
        assert_eq!(content(path), "next\n");
    }
}
