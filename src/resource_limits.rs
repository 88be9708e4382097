//! What this process or this machine can be short of, such as descriptors, and advice to the operator.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

/// How many descriptors this process may have open.
pub(crate) fn descriptor_limit() -> u64 {
    // POSIX guarantees no more than 20, but every system that the kernel is built for has this.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft)
}

/// Whether `error` is about something that this process or this machine is short of.
pub(crate) fn is_exhaustion(error: Errno) -> bool {
    [
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ENOBUFS,
        Errno::ENOMEM,
        Errno::EADDRNOTAVAIL,
    ]
    .contains(&error)
}

/// What is lacking, and what to do about it.
pub(crate) fn advice(shortage: Errno) -> String {
    match shortage {
        Errno::EMFILE => format!(
            "every descriptor that this process may have is in use; raise LimitNOFILE (ulimit -n), now {}",
            descriptor_limit()
        ),
        Errno::ENFILE => {
            "every descriptor of this machine is in use; raise the sysctl fs.file-max".to_owned()
        }
        Errno::EADDRNOTAVAIL => {
            "this machine has no local address and port left for a connection; widen the sysctl \
             net.ipv4.ip_local_port_range"
                .to_owned()
        }
        other => format!("this machine has no memory left for sockets ({other})"),
    }
}

/// Takes `wanted` descriptors and gives them back.
///
/// # Errors
/// How many descriptors could be taken, and why the next one could not.
pub(crate) fn probe_descriptors(wanted: usize) -> Result<(), (usize, io::Error)> {
    let stderr = io::stderr();
    let mut taken: Vec<OwnedFd> = Vec::with_capacity(wanted);
    while taken.len() < wanted {
        match stderr.as_fd().try_clone_to_owned() {
            Ok(duplicate) => taken.push(duplicate),
            Err(error) => return Err((taken.len(), error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shortage_has_its_advice() {
        let text = advice(Errno::EMFILE);
        assert!(text.contains("LimitNOFILE"), "{text}");
        assert!(text.contains(&descriptor_limit().to_string()), "{text}");
        assert!(advice(Errno::ENFILE).contains("fs.file-max"));
        assert!(advice(Errno::EADDRNOTAVAIL).contains("ip_local_port_range"));
        assert!(advice(Errno::ENOBUFS).contains("ENOBUFS"));
        assert!(is_exhaustion(Errno::ENOMEM) && !is_exhaustion(Errno::ECONNREFUSED));
    }

    #[test]
    fn probed_descriptors_are_closed() {
        for _ in 0..200 {
            assert!(probe_descriptors(20).is_ok());
        }
    }
}
