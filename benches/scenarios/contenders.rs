//! The balancers that are compared: ballast with each algorithm, and nginx and HAProxy with theirs. Each runs with one
//! thread in front of the same hosts over kept connections.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::rig::Hosts;
use crate::support::{Ballast, SOON, Setup, file, free, peer, wait_until};

/// A balancer and its algorithm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contender {
    pub(crate) program: Program,
    /// The algorithm in the syntax of the program's configuration.
    pub(crate) algorithm: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Ballast,
    Nginx,
    Haproxy,
}

/// All contenders; equivalent algorithms have the same order.
pub(crate) const CONTENDERS: &[Contender] = &[
    ballast("random"),
    ballast("round_robin"),
    ballast("p2c"),
    ballast("{ name: p2c, load: peak_ewma }"),
    ballast("least_load"),
    ballast("{ name: consistent_hash, key: uri }"),
    ballast("{ name: bounded, key: uri }"),
    ballast("ip_hash"),
    nginx("random;"),
    nginx(""),
    nginx("random two least_conn;"),
    nginx("least_conn;"),
    nginx("hash $request_uri consistent;"),
    haproxy("balance random(1)"),
    haproxy("balance roundrobin"),
    haproxy("balance random(2)"),
    haproxy("balance leastconn"),
    haproxy("balance uri whole\n  hash-type consistent"),
    haproxy("balance uri whole\n  hash-type consistent\n  hash-balance-factor 125"),
    haproxy("balance source"),
];

const fn ballast(algorithm: &'static str) -> Contender {
    Contender {
        program: Program::Ballast,
        algorithm,
    }
}

const fn nginx(algorithm: &'static str) -> Contender {
    Contender {
        program: Program::Nginx,
        algorithm,
    }
}

const fn haproxy(algorithm: &'static str) -> Contender {
    Contender {
        program: Program::Haproxy,
        algorithm,
    }
}

/// A running balancer. It ends when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    _process: Process,
}

/// Held so that it ends with the value.
#[expect(dead_code, reason = "dropping the value ends the process")]
enum Process {
    Ours(Ballast),
    Theirs(Peer),
}

/// A third-party process with its files.
struct Peer {
    child: Child,
    _folder: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Contender {
    /// Program and algorithm on one line.
    pub(crate) fn name(&self) -> String {
        let program = match self.program {
            Program::Ballast => "ballast",
            Program::Nginx => "nginx",
            Program::Haproxy => "haproxy",
        };
        let algorithm = self.algorithm.replace("\n ", ",").replace("balance ", "");
        match algorithm.trim_end_matches(';') {
            "" => format!("{program} round robin"),
            algorithm => format!("{program} {algorithm}"),
        }
    }

    /// Starts it in front of the hosts; `None` if it is not installed.
    pub(crate) fn start(&self, hosts: &Hosts) -> Option<Running> {
        match self.program {
            Program::Ballast => Some(start_ballast(self.algorithm, hosts)),
            Program::Nginx => start_peer("nginx", |folder, address| {
                let config = nginx_config(folder, address, self.algorithm, hosts);
                let config = file(folder, "nginx.conf", &config);
                let mut command = Command::new(peer("nginx")?);
                command.arg("-c").arg(config).arg("-p").arg(folder);
                Some(command)
            }),
            Program::Haproxy => start_peer("haproxy", |folder, address| {
                let config = haproxy_config(address, self.algorithm, hosts);
                let config = file(folder, "haproxy.cfg", &config);
                let mut command = Command::new(peer("haproxy")?);
                command.arg("-db").arg("-f").arg(config);
                Some(command)
            }),
        }
    }
}

fn start_ballast(algorithm: &str, hosts: &Hosts) -> Running {
    let setup = Setup::of(&[])
        .algorithm(algorithm)
        .health("{}")
        .top("server: { threads: 1 }");
    let ballast = hosts.addresses().fold(setup, Setup::host).start();
    Running {
        address: ballast.address(),
        _process: Process::Ours(ballast),
    }
}

fn start_peer(
    name: &str,
    command: impl FnOnce(&Path, SocketAddr) -> Option<Command>,
) -> Option<Running> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let address = free();
    let child = command(folder.path(), address)?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("an installed program can be started");
    let mut peer = Peer {
        child,
        _folder: folder,
    };
    wait_until(SOON, &format!("{name} listens"), || {
        let ended = peer.child.try_wait().expect("it is our child");
        assert!(ended.is_none(), "{name} has ended: {ended:?}");
        TcpStream::connect(address).is_ok()
    });
    Some(Running {
        address,
        _process: Process::Theirs(peer),
    })
}

/// The settings that nginx needs to keep its connections, and none that changes how it chooses or fails.
fn nginx_config(folder: &Path, address: SocketAddr, algorithm: &str, hosts: &Hosts) -> String {
    let folder = folder.display();
    let servers = hosts.addresses().fold(String::new(), |mut text, host| {
        let _ = write!(text, " server {host};");
        text
    });
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log /dev/null;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/client-body;
  proxy_temp_path {folder}/proxy;
  upstream web {{ {algorithm}{servers} keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen {address} backlog=4096;
    location / {{
      proxy_pass http://web;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}

/// HAProxy with its checks, and otherwise its defaults.
fn haproxy_config(address: SocketAddr, algorithm: &str, hosts: &Hosts) -> String {
    let servers = hosts
        .addresses()
        .enumerate()
        .fold(String::new(), |mut text, (number, host)| {
            let _ = writeln!(text, "  server h{number} {host} check");
            text
        });
    format!(
        "global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  option redispatch
  http-reuse always
listen web
  bind {address}
  {algorithm}
{servers}"
    )
}
