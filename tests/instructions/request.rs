//! One proxied request: the real binary between a client and a host that alternate in one thread.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::callgrind;
use crate::ports;
use crate::wait::wait_for;

/// Requests of the two runs; the difference removes what both have in common, such as the start.
const FEW: u32 = 100;
const MANY: u32 = 500;
/// The interval between two requests. Requests within 10 ms share Pingora's timers, and on a faster machine more of
/// them would; at longer intervals each request pays for its own.
const INTERVAL: Duration = Duration::from_millis(11);
/// For any step under callgrind, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

const BODY: usize = 1_024;

/// The instructions of one request.
pub(crate) fn measure(valgrind: &Path) -> u64 {
    let [few, many] = thread::scope(|scope| {
        [FEW, MANY]
            .map(|requests| scope.spawn(move || serve(valgrind, requests)))
            .map(|run| run.join().expect("every request had a response"))
    });
    (many - few) / u64::from(MANY - FEW)
}

/// The instructions of the serving thread for this many requests over one connection, including its start.
fn serve(valgrind: &Path, requests: u32) -> u64 {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let host = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let host_address = host.local_addr().expect("it is bound");
    let mut proxy = Proxy::start(valgrind, folder.path(), host_address);
    let mut client = proxy.connect();
    let mut from_proxy = None;
    for _ in 0..requests {
        thread::sleep(INTERVAL);
        client
            .write_all(
                b"GET /1k HTTP/1.1\r\nHost: ballast.test\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n",
            )
            .expect("the proxy reads");
        let from_proxy = from_proxy.get_or_insert_with(|| accept(&host));
        read_until(from_proxy, |bytes| bytes.ends_with(b"\r\n\r\n"));
        from_proxy.write_all(&response()).expect("the proxy reads");
        read_until(&mut client, |bytes| {
            let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            head.is_some_and(|head| bytes.len() >= head + 4 + BODY)
        });
    }
    proxy.stop();
    serving_thread_count(folder.path())
}

/// Only one thread serves. The first thread starts everything; the others run timers, and their counts
/// grow with the duration of the run.
fn serving_thread_count(folder: &Path) -> u64 {
    let counts = callgrind::counts(folder);
    let others = counts.into_iter().filter(|(thread, _)| *thread > 1);
    others
        .map(|(_, count)| count)
        .max()
        .expect("it has several threads")
}

fn response() -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: host\r\nDate: Sat, 28 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {BODY}\r\n\r\n"
    );
    [head.as_bytes(), &[b'x'; BODY]].concat()
}

fn accept(host: &TcpListener) -> TcpStream {
    host.set_nonblocking(true).expect("a socket option");
    let (stream, _) = wait_for(DEADLINE, "the proxy connects to its host", || {
        host.accept().ok()
    });
    stream.set_nonblocking(false).expect("a socket option");
    with_deadlines(stream)
}

fn with_deadlines(stream: TcpStream) -> TcpStream {
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("a socket option");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

fn read_until(stream: &mut TcpStream, complete: impl Fn(&[u8]) -> bool) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    while !complete(&bytes) {
        let n = stream.read(&mut piece).expect("the other side writes");
        assert!(n > 0, "the connection ended after {}", bytes.escape_ascii());
        bytes.extend_from_slice(&piece[..n]);
    }
}

/// `ballast` under callgrind; killed when dropped.
struct Proxy {
    child: Child,
    address: SocketAddr,
    log: std::path::PathBuf,
}

impl Proxy {
    fn start(valgrind: &Path, folder: &Path, host: SocketAddr) -> Self {
        let address = ports::free();
        let config = folder.join("ballast.yaml");
        let text = format!(
            "server: {{ threads: 1 }}\nlisteners: [\"{address}\"]\n\
             pools: {{ web: {{ algorithm: round_robin, health_check: none, hosts: [\"{host}\"] }} }}\n"
        );
        fs::write(&config, text).expect("the folder can be written");
        let log = folder.join("log");
        let stderr = fs::File::create(&log).expect("the folder can be written");
        let child = callgrind::command(valgrind, folder, &["--separate-threads=yes"])
            .arg(env!("CARGO_BIN_EXE_ballast"))
            .args(["run", "-c"])
            .arg(config)
            .env("RUNTIME_DIRECTORY", folder.join("run"))
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("valgrind runs");
        Proxy {
            child,
            address,
            log,
        }
    }

    fn connect(&mut self) -> TcpStream {
        let stream = wait_for(DEADLINE, "the proxy listens", || {
            let ended = self.child.try_wait().expect("our own child process");
            assert!(
                ended.is_none(),
                "the proxy ended:\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            );
            TcpStream::connect(self.address).ok()
        });
        with_deadlines(stream)
    }

    /// Ends it, and returns once callgrind has written its counts.
    fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGINT).expect("it runs");
        wait_for(DEADLINE, "the proxy ends", || {
            self.child.try_wait().expect("our own child process")
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
