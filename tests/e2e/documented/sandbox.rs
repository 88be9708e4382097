//! A place where commands run literally: a network, a process table, /etc, /usr, /var and /run of their own, in which
//! Ballast is installed and hosts answer.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use super::markdown::root;
use crate::support::{Authority, Finished, SOON, file, finish, installed, peer, wait_until};

/// Makes the namespaces, then holds them until its input ends. The arguments: the files for /etc/ballast, and the program.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
for directory in etc usr var; do
    mkdir -p /mnt/$directory/changed /mnt/$directory/work
    mount -t overlay overlay -o lowerdir=/$directory,upperdir=/mnt/$directory/changed,workdir=/mnt/$directory/work /$directory
done
mount -t tmpfs tmpfs /run
ip link set lo up
rm -rf /etc/ballast
cp -r "$1" /etc/ballast
mkdir -p /etc/bash_completion.d /etc/systemd/system
ln -sf "$2" /usr/bin/ballast
echo ready
# Not `exec`: the shell takes care of processes that others have left.
cat
exit
"#;

/// Systemd has tests of its own (systemd.rs); here its commands do what the unit's lines say.
const SYSTEMCTL: &str = include_str!("systemctl");

/// Programs without which there is no sandbox.
const NEEDED: [&str; 5] = ["unshare", "nsenter", "mount", "ip", "curl"];

/// Four hosts that answer everything.
const HOSTS: &str = "\
listeners: [\"127.0.0.1:8081\", \"127.0.0.1:8082\", \"127.0.0.1:8083\", \"127.0.0.1:8084\"]
routes: [{ path: \"= /unused\", pool: unused }, { respond: { status: 200, body: hello } }]
pools: { unused: { hosts: [\"127.0.0.1:1\"], health_check: none } }
";

/// The output of what runs in the background.
const LOG: &str = "background.log";

/// Ends with everything in it when dropped.
pub(super) struct Sandbox {
    namespaces: Child,
    /// The first process in the namespaces.
    inside: String,
    folder: TempDir,
    /// What serves in the foreground.
    foreground: Option<Child>,
    /// Other processes, such as the hosts.
    helpers: Vec<Child>,
}

impl Sandbox {
    /// `None`: programs or rights are missing, which was said.
    pub(super) fn new() -> Option<Self> {
        for program in NEEDED {
            peer(program)?;
        }
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        write_files(folder.path());
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-c", SETUP, "sandbox"])
            .arg(folder.path().join("etc"))
            .arg(env!("CARGO_BIN_EXE_ballast"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut namespaces = command.spawn().expect("unshare can be started");
        let mut line = String::new();
        let output = namespaces.stdout.take().expect("it is piped");
        // Ends at the latest when the script does.
        let _ = BufReader::new(output).read_line(&mut line);
        if line != "ready\n" {
            let end = namespaces.wait_with_output().expect("it has ended");
            println!("{}", String::from_utf8_lossy(&end.stderr));
            return installed(None, "the right to make namespaces and overlays");
        }
        let pid = namespaces.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let inside = children.expect("it runs").trim().to_owned();
        let mut sandbox = Sandbox {
            namespaces,
            inside,
            folder,
            foreground: None,
            helpers: Vec::new(),
        };
        sandbox.help("exec ballast run -c hosts.yaml");
        sandbox.wait_for("curl -sf 127.0.0.1:8081");
        Some(sandbox)
    }

    /// Runs a script until it ends.
    pub(super) fn run(&self, script: &str) -> Finished {
        finish(self.command(script))
    }

    /// Runs a command that serves until it is told to stop, and waits until `probe` succeeds.
    pub(super) fn serve(&mut self, command: &str, probe: &str) {
        self.stop_serving();
        let mut command = self.command(&format!("echo $$ > serving.pid; exec {command}"));
        self.foreground = Some(self.detached(&mut command));
        self.wait_for(probe);
    }

    /// Stops what [`serve`](Self::serve) has started, as Ctrl-C does.
    pub(super) fn stop_serving(&mut self) {
        if let Some(mut child) = self.foreground.take() {
            let end = self.run("kill -INT $(cat serving.pid)");
            assert_eq!(end.code, Some(0), "it serves until then: {end:?}");
            wait_until(SOON, "what served has ended", || {
                child.try_wait().expect("our own child process").is_some()
            });
        }
    }

    /// Starts the service unless it runs.
    pub(super) fn ensure_service(&mut self) {
        self.stop_serving();
        if self.run("ballast status").code != Some(0) {
            let end = self.run("systemctl start ballast");
            assert_eq!(end.code, Some(0), "{end:?}");
        }
    }

    /// Starts etcd unless it runs; false: it is not installed, which was said.
    pub(super) fn ensure_etcd(&mut self) -> bool {
        if peer("etcd").is_none() || peer("etcdctl").is_none() {
            return false;
        }
        let probe = "etcdctl --user root:secret endpoint health || etcdctl endpoint health";
        if self.run(probe).code != Some(0) {
            self.help(
                "exec etcd --data-dir etcd-data --listen-client-urls http://127.0.0.1:2379 \
                 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 \
                 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380",
            );
            self.wait_for(probe);
        }
        true
    }

    /// The folder in which commands run.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn help(&mut self, script: &str) {
        let mut command = self.command(script);
        let child = self.detached(&mut command);
        self.helpers.push(child);
    }

    /// Starts a command whose output is kept for a failure.
    fn detached(&self, command: &mut Command) -> Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(LOG))
            .expect("the folder can be written");
        let command = command.stdout(log.try_clone().expect("a file")).stderr(log);
        command.spawn().expect("nsenter can be started")
    }

    #[track_caller]
    fn wait_for(&self, probe: &str) {
        wait_until(SOON, probe, || self.run(probe).code == Some(0));
    }

    fn command(&self, script: &str) -> Command {
        let folder = self.folder.path().display();
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.inside, "-m", "-n", "-p", "--", "sh", "-e", "-c"])
            .arg(format!("cd {folder}\n{script}"))
            .env(
                "PATH",
                format!("{folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            )
            .env("HOME", self.folder.path())
            .env("ETCDCTL_API", "3")
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join(LOG));
            println!("what ran in the background:\n{}", log.unwrap_or_default());
        }
        // The first process in a namespace of processes takes all others with it.
        let _ = self.namespaces.kill();
        let _ = self.namespaces.wait();
        for child in self.foreground.iter_mut().chain(&mut self.helpers) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The folder for commands: what a checkout has after a build, the stand-ins, and `etc` for /etc/ballast.
fn write_files(folder: &Path) {
    let etc = subfolder(folder, "etc");
    let authority = Authority::new("authority");
    let certificates = subfolder(&etc, "certs");
    for (place, name) in [
        (&etc, "site"),
        (&etc, "etcd"),
        (&certificates, "example.com"),
    ] {
        let (chain, _) = authority
            .issue(&["example.com", "www.example.com"])
            .write(place, name);
        fs::rename(chain, place.join(format!("{name}.pem"))).expect("renamed");
    }
    let path = authority.write(&etc, "etcd-ca.pem");
    assert!(path.is_file(), "{}", path.display());
    for name in ["etcd.password", "etcd-root.password"] {
        private_file(&etc, name, "secret\n");
    }
    private_file(&etc, "consul.token", "0123456789abcdef\n");
    file(&etc, "web.hosts", "127.0.0.1:8084\n");

    symlink(root().join("conf"), folder.join("conf")).expect("linked");
    file(folder, "hosts.yaml", HOSTS);
    let bin = subfolder(folder, "bin");
    let unit = root().join("conf/ballast.service");
    let systemctl = SYSTEMCTL.replace("UNIT", &unit.display().to_string());
    program(&bin, "systemctl", &systemctl);
    // Nothing in the documents needs to wait for as long as it says.
    program(&bin, "sleep", "#!/bin/sh\nexec /usr/bin/sleep 0.2\n");
    let release = subfolder(&subfolder(folder, "target"), "release");
    let binary = env!("CARGO_BIN_EXE_ballast");
    let script = format!("#!/bin/sh\nexec {binary} \"$@\"\n");
    program(&release, "ballast", &script);
}

fn subfolder(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir(&path).expect("the folder can be written");
    path
}

fn private_file(folder: &Path, name: &str, text: &str) {
    let path = file(folder, name, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
}

fn program(folder: &Path, name: &str, script: &str) {
    let path = file(folder, name, script);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}
