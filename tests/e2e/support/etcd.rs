//! An etcd cluster of the test's own, with its data in a folder of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::peers::peer;
use super::ports::free;
use super::tls::Authority;
use super::wait::{SOON, wait_until};

/// The password of the user `root` if authentication is on.
pub(crate) const PASSWORD: &str = "secret";

/// A cluster. Its members are killed when it is dropped; if the test failed, their logs are printed.
pub(crate) struct Etcd {
    program: PathBuf,
    control: PathBuf,
    folder: TempDir,
    has_tls: bool,
    has_users: bool,
    members: Vec<Member>,
}

/// A change of a key.
#[derive(Debug)]
pub(crate) struct KeyEvent {
    /// `PUT` or `DELETE`.
    pub(crate) kind: String,
    pub(crate) value: String,
}

struct Member {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    /// Serves /health without TLS.
    health: SocketAddr,
    /// `None` while it is stopped.
    process: Option<Child>,
}

impl Etcd {
    /// One member; `None` if etcd is not installed.
    pub(crate) fn start() -> Option<Self> {
        Etcd::start_with(1, false)
    }

    /// Several members.
    pub(crate) fn start_members(count: usize) -> Option<Self> {
        Etcd::start_with(count, false)
    }

    /// One member with TLS, which demands a certificate from its clients.
    pub(crate) fn start_with_tls() -> Option<Self> {
        Etcd::start_with(1, true)
    }

    fn start_with(count: usize, has_tls: bool) -> Option<Self> {
        let program = peer("etcd")?;
        let control = peer("etcdctl")?;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        if has_tls {
            let authority = Authority::new("etcd's");
            authority.write(folder.path(), "ca.pem");
            for name in ["server", "client"] {
                let names = ["localhost", "127.0.0.1"];
                authority.issue(&names).write(folder.path(), name);
            }
        }
        let members = (0..count).map(|number| Member {
            name: format!("member{number}"),
            client: free(),
            peer: free(),
            health: free(),
            process: None,
        });
        let mut etcd = Etcd {
            program,
            control,
            members: members.collect(),
            folder,
            has_tls,
            has_users: false,
        };
        for member in 0..count {
            etcd.spawn(member);
        }
        for member in 0..count {
            etcd.wait_until_healthy(member);
        }
        Some(etcd)
    }

    /// Starts a member again with the data that it had.
    pub(crate) fn restart(&mut self, member: usize) {
        self.spawn(member);
        self.wait_until_healthy(member);
    }

    /// Ends a member at once; connections to it are refused.
    pub(crate) fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.members[member].process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it is a child");
        }
    }

    /// Stops a member as a machine stops that hangs: connections stay open, and nothing is answered.
    pub(crate) fn pause(&self, member: usize) {
        self.signal(member, Signal::SIGSTOP);
    }

    /// Lets a paused member go on.
    pub(crate) fn resume(&self, member: usize) {
        self.signal(member, Signal::SIGCONT);
    }

    /// The address for clients of a member.
    pub(crate) fn address(&self, member: usize) -> SocketAddr {
        self.members[member].client
    }

    /// The number of the member that leads.
    pub(crate) fn leader(&self) -> usize {
        let leads = |member: &Member| {
            let url = self.url(member.client);
            let line = self.control(&["--endpoints", &url, "endpoint", "status"]);
            line.split(", ").nth(4) == Some("true")
        };
        let found = self.members.iter().position(leads);
        found.expect("there is a leader")
    }

    /// Runs etcdctl, which must succeed; returns what it prints.
    #[track_caller]
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.control);
        command.env("ETCDCTL_API", "3");
        if arguments.first() != Some(&"--endpoints") {
            let running = self
                .members
                .iter()
                .filter(|member| member.process.is_some());
            let urls = Vec::from_iter(running.map(|member| self.url(member.client)));
            command.args(["--endpoints", &urls.join(",")]);
        }
        if self.has_tls {
            let file = |name: &str| self.file(name).display().to_string();
            command.args(["--cacert", &file("ca.pem")]);
            command.args(["--cert", &file("client.crt"), "--key", &file("client.key")]);
        }
        if self.has_users {
            command.args(["--user", &format!("root:{PASSWORD}")]);
        }
        let output = command.args(arguments).output().expect("etcdctl runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The first changes of a key since it exists, as soon as there are so many.
    #[track_caller]
    pub(crate) fn events(&self, key: &str, count: usize) -> Vec<KeyEvent> {
        let mut command = Command::new("timeout");
        let seconds = SOON.as_secs().to_string();
        command
            .arg(seconds)
            .arg(&self.control)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url(self.members[0].client)])
            .args(["watch", "--rev", "1", key])
            .stdout(Stdio::piped());
        let mut watch = command.spawn().expect("timeout runs");
        let output = BufReader::new(watch.stdout.take().expect("it is piped"));
        let mut lines = output.lines().map_while(Result::ok);
        let mut events = Vec::new();
        // Kind, key and value have a line each.
        while events.len() < count
            && let (Some(kind), Some(_), Some(value)) = (lines.next(), lines.next(), lines.next())
        {
            events.push(KeyEvent { kind, value });
        }
        // It ends etcdctl, too.
        let pid = i32::try_from(watch.id()).expect("process ids are small");
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = watch.wait();
        assert_eq!(events.len(), count, "changes of {key}: {events:?}");
        events
    }

    /// Forgets all revisions before the current one.
    pub(crate) fn compact(&self) {
        let status = self.control(&["get", "none", "--write-out=fields"]);
        let line = status.lines().find(|line| line.contains("\"Revision\""));
        let revision = line.and_then(|line| line.rsplit(' ').next());
        self.control(&["compact", revision.expect("there is a revision")]);
    }

    /// Turns authentication on, with `root` as the only user.
    pub(crate) fn enable_users(&mut self) {
        self.control(&["user", "add", &format!("root:{PASSWORD}")]);
        self.control(&["user", "grant-role", "root", "root"]);
        self.control(&["auth", "enable"]);
        self.has_users = true;
    }

    /// The configuration of a client of all members.
    pub(crate) fn section(&self, more: &str) -> String {
        let addresses = self.members.iter().map(|member| member.client);
        self.section_at(&Vec::from_iter(addresses), more)
    }

    /// The configuration of a client of these endpoints.
    pub(crate) fn section_at(&self, endpoints: &[SocketAddr], more: &str) -> String {
        let urls = endpoints.iter().map(|at| format!("\"{}\"", self.url(*at)));
        let mut keys = vec![format!("endpoints: [{}]", Vec::from_iter(urls).join(", "))];
        if self.has_tls {
            let file = |name: &str| self.file(name).display().to_string();
            keys.push(format!(
                "tls: {{ ca: \"{}\", certificate: \"{}\", key: \"{}\" }}",
                file("ca.pem"),
                file("client.crt"),
                file("client.key")
            ));
        }
        if !more.is_empty() {
            keys.push(more.to_owned());
        }
        format!("{{ {} }}", keys.join(", "))
    }

    /// A file in the folder of the cluster.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    fn spawn(&mut self, number: usize) {
        let member = &self.members[number];
        let name = &member.name;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.file(&format!("{name}.log")))
            .expect("a file");
        let client = self.url(member.client);
        let peer = format!("http://{}", member.peer);
        let all = self.members.iter();
        let all = all.map(|member| format!("{}=http://{}", member.name, member.peer));
        let mut command = Command::new(&self.program);
        command
            .args(["--name", name])
            .arg("--data-dir")
            .arg(self.file(&format!("{name}.etcd")))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &Vec::from_iter(all).join(",")])
            .args(["--initial-cluster-token", &self.token()])
            .arg("--listen-metrics-urls")
            .arg(format!("http://{}", member.health))
            // Elections take a second instead of several; leases may last a second.
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(["--bcrypt-cost", "4", "--logger", "zap"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        if self.has_tls {
            command.arg("--client-cert-auth");
            command.arg("--trusted-ca-file").arg(self.file("ca.pem"));
            command.arg("--cert-file").arg(self.file("server.crt"));
            command.arg("--key-file").arg(self.file("server.key"));
        }
        self.members[number].process = Some(command.spawn().expect("etcd runs"));
    }

    /// Clusters have different identities, even if they have the same ports one after the other.
    fn token(&self) -> String {
        let name = self.folder.path().file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn wait_until_healthy(&self, member: usize) {
        let address = self.members[member].health;
        wait_until(SOON, "the member is healthy", || is_healthy(address));
    }

    fn signal(&self, member: usize, signal: Signal) {
        if let Some(process) = &self.members[member].process {
            let pid = i32::try_from(process.id()).expect("process ids are small");
            kill(Pid::from_raw(pid), signal).expect("it has not been waited for");
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.kill(member);
        }
        if std::thread::panicking() {
            for member in &self.members {
                let name = &member.name;
                println!(
                    "--- {name} printed:\n{}",
                    tail(&self.file(&format!("{name}.log")))
                );
            }
        }
    }
}

/// The end of a log, which is long.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = Vec::from_iter(text.lines());
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn is_healthy(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        std::io::Result::Ok(text)
    };
    ask().is_ok_and(|text| text.contains(r#""health":"true""#))
}
