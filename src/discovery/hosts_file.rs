//! Files with hosts.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::answer::{Answer, FoundHost};
use crate::config::{HostEntry, read_host_list};
use crate::file_stamps::Stamps;

/// How often a file is looked at: a call to the kernel.
const INTERVAL: Duration = Duration::from_millis(250);

/// How often a file that stays the same is told again: its age shows that it is still looked at.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(60);

/// The largest file that is read: some ten thousand hosts.
const MAX_BYTES: u64 = 4 << 20;

/// Reports the hosts in a file now and after each change, until it is cancelled. A file that is being written is not read
/// before it has stayed the same for an interval, so that half a list is not taken for a whole one; one that is renamed over
/// it, or swapped behind a symbolic link, is whole at once all the same.
pub(super) async fn watch(path: &Path, report: &(dyn Fn(Answer) + Sync)) {
    let mut seen = None;
    let mut candidate = None;
    let mut told: Option<(Answer, Instant)> = None;
    loop {
        let now = stamps(path).await;
        let answer = match &told {
            Some((answer, at)) if now == seen => {
                (at.elapsed() >= CONFIRM_INTERVAL).then(|| answer.clone())
            }
            Some(_) if now != candidate => None,
            _ => {
                seen.clone_from(&now);
                Some(read(path.to_owned()).await)
            }
        };
        if let Some(answer) = answer {
            report(answer.clone());
            told = Some((answer, Instant::now()));
        }
        candidate = now;
        sleep(INTERVAL).await;
    }
}

async fn stamps(path: &Path) -> Option<Stamps> {
    let path = path.to_owned();
    let stamps = spawn_blocking(move || Stamps::of(&[&path]));
    stamps.await.ok().flatten()
}

async fn read(path: PathBuf) -> Answer {
    let answer = spawn_blocking(move || {
        let text = match text(&path) {
            Ok(text) => text,
            Err(error) => return Answer::Failed(format!("cannot read it: {error}")),
        };
        match read_host_list(&text, &path) {
            Ok(entries) => Answer::Complete {
                hosts: entries.iter().filter_map(found).collect(),
                ttl: None,
            },
            Err(errors) => Answer::Failed(errors.to_string().replace('\n', "; ")),
        }
    });
    let answer = answer.await;
    answer.unwrap_or_else(|error| Answer::Failed(error.to_string()))
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 4 MiB",
        )),
        false => Ok(text),
    }
}

/// A host as an element of a list says it; `None` for a name.
pub(super) fn found(entry: &HostEntry) -> Option<FoundHost> {
    let host = entry.host()?;
    Some(FoundHost {
        label: host.label,
        weight: Some(host.weight),
        backup: Some(host.backup),
        max_in_flight: host.max_in_flight,
        labels: host.labels,
        ..FoundHost::at(host.address)
    })
}
