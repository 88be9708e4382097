//! The log on stderr. No request waits for whoever reads it.

use std::io::{self, IsTerminal, Stderr, Write};

use env_logger::{Builder, Env, Target, WriteStyle};
use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a pipe takes as a whole once it says that it takes anything (PIPE_BUF of Linux).
const PIECE: usize = 4096;

pub(super) fn start() {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Builder::new()
        .filter_level(LevelFilter::Info)
        // What Pingora tells at `info` is about its own insides.
        .filter_module("pingora", LevelFilter::Warn)
        .write_style(match colours {
            true => WriteStyle::Always,
            false => WriteStyle::Never,
        })
        .parse_env(Env::new().filter("BALLAST_LOG"))
        .target(Target::Pipe(Box::new(Lossy::default())))
        .init();
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// Stderr, without the lines that it does not take at once: lines are written by the threads that serve, and a pipe that
/// nobody reads would stop them all.
#[derive(Default)]
struct Lossy {
    lost: u64,
}

impl Lossy {
    /// Writes a line, or as much of it as is taken at once. `false`: that was not all.
    fn put(&self, line: &[u8]) -> bool {
        let mut stderr = io::stderr();
        line.chunks(PIECE)
            .all(|piece| takes_more(&stderr) && stderr.write_all(piece).is_ok())
    }
}

impl Write for Lossy {
    /// The logger gives a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lost > 0 {
            let note = format!("[lines lost, as the log was not read: {}]\n", self.lost);
            if self.put(note.as_bytes()) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !self.put(line) {
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn takes_more(stderr: &Stderr) -> bool {
    let mut wanted = [PollFd::new(stderr, PollFlags::OUT)];
    let ready = poll(&mut wanted, Some(&Timespec::default()));
    ready.is_ok_and(|ready| ready > 0)
}
