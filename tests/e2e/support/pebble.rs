//! An ACME server of the test's own: pebble, which resolves every name to 127.0.0.1 by its companion. It rejects one nonce
//! of twenty, as servers may.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::peers::peer;
use super::ports::free;
use super::tls::Authority;
use super::wait::{SOON, wait_until};

/// An authority that proves domains at two ports. It forgets everything when it is stopped.
pub(crate) struct Pebble {
    program: PathBuf,
    address: SocketAddr,
    resolver: SocketAddr,
    folder: TempDir,
    /// Ended when this is dropped.
    processes: Vec<Child>,
}

impl Pebble {
    /// An authority that has not been started; `None` if pebble is not installed.
    pub(crate) fn prepare(http: SocketAddr, tls: SocketAddr) -> Option<Self> {
        let program = peer("pebble")?;
        let resolver_program = peer("pebble-challtestsrv")?;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let authority = Authority::new("the directory's");
        authority.write(folder.path(), "ca.pem");
        let (certificate, key) = authority
            .issue(&["localhost"])
            .write(folder.path(), "directory");
        let address = free();
        let config = json!({ "pebble": {
            "listenAddress": address,
            "managementListenAddress": free(),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": http.port(),
            "tlsPort": tls.port(),
        } });
        std::fs::write(folder.path().join("pebble.json"), config.to_string()).expect("written");
        let resolver = free();
        let resolves = Command::new(resolver_program)
            .args([
                "-dns01",
                &resolver.to_string(),
                "-management",
                &free().to_string(),
            ])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Pebble {
            program,
            address,
            resolver,
            folder,
            processes: vec![resolves.expect("the program runs")],
        })
    }

    /// Starts it.
    pub(crate) fn run(&mut self) {
        let log = File::create(self.folder.path().join("log")).expect("a file");
        let child = Command::new(&self.program)
            .arg("-config")
            .arg(self.folder.path().join("pebble.json"))
            .args(["-dnsserver", &self.resolver.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stderr(log.try_clone().expect("a file"))
            .stdout(log)
            .spawn();
        self.processes.push(child.expect("the program runs"));
        wait_until(SOON, "the resolver and the directory listen", || {
            [self.resolver, self.address]
                .iter()
                .all(|at| TcpStream::connect(at).is_ok())
        });
    }

    /// Ends it; connections to it are refused.
    pub(crate) fn stop(&mut self) {
        if self.processes.len() > 1 {
            let mut child = self.processes.pop().expect("it was started");
            child.kill().expect("it runs");
            child.wait().expect("it is a child");
        }
    }

    /// What `acme` needs to order from it, and further keys.
    pub(crate) fn section(&self, state: &Path, more: &str) -> String {
        format!(
            "acme: {{ directory: \"https://localhost:{}/dir\", ca: \"{}\", state_directory: \"{}\", {more} }}",
            self.address.port(),
            self.folder.path().join("ca.pem").display(),
            state.display()
        )
    }

    /// How many certificates it has issued.
    pub(crate) fn issued(&self) -> usize {
        self.log().matches("Issued certificate").count()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("--- pebble printed:\n{}", self.log());
        }
    }
}
