//! `combined` compared with a real nginx, field by field, for the same requests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jiff::fmt::strtime;

use super::{lines, logging};
use crate::support::{Backend, Client, Reply, SOON, Setup, file, free, peer, wait_until};

/// A running nginx in its own folder.
struct Nginx {
    process: Child,
    address: SocketAddr,
}

impl Nginx {
    /// Starts an nginx that sends every request to `backend`.
    fn start(program: PathBuf, folder: &Path, backend: SocketAddr) -> Self {
        let (address, dir) = (free(), folder.display());
        let text = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log {dir}/nginx.log combined; client_body_temp_path {dir}/b;\n\
             proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;\n\
             scgi_temp_path {dir}/s;\n\
             server {{ listen {address}; location / {{ proxy_pass http://{backend}; }} }} }}\n"
        );
        let process = Command::new(program)
            .arg("-c")
            .arg(file(folder, "nginx.conf", &text))
            .arg("-e")
            .arg(folder.join("error.log"))
            .env("TZ", "UTC")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program is installed");
        let nginx = Nginx { process, address };
        wait_until(SOON, "nginx listens", || {
            Client::try_connect(address).is_ok()
        });
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Without a master process, this ends all of nginx.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The fields of a line: its time, and the text before and after the time.
#[track_caller]
fn fields(line: &str) -> (jiff::Timestamp, [&str; 2]) {
    let (before, rest) = line.split_once('[').expect("a time");
    let (time, after) = rest.split_once(']').expect("a time");
    let time = strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).expect("of this form");
    (time.to_timestamp().expect("a moment"), [before, after])
}

#[test]
fn combined_lines_equal_those_of_nginx() {
    let Some(program) = peer("nginx") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let backend = Backend::start_new("a");
    let nginx = Nginx::start(program, folder.path(), backend.address());
    let ballast = logging(Setup::of(&[&backend]), "format: combined").start();
    let get =
        |fields: &str| format!("GET /a?b=c HTTP/1.1\r\nHost: test\r\n{fields}\r\n").into_bytes();
    let requests = [
        (200, get("")),
        (
            200,
            get("User-Agent: Mozilla/5.0 (X11)\r\nReferer: https://example.com/?a=b\r\n"),
        ),
        (404, get("User-Agent: \"quoted\" \\back\r\nReferer: \r\n")),
        (500, get("Authorization: Basic YWxpY2U6c2VjcmV0\r\n")),
        (200, get("Authorization: Bearer abc\r\nReferer: -\r\n")),
        (204, b"HEAD /head HTTP/1.1\r\nHost: test\r\n\r\n".to_vec()),
        (
            200,
            b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody".to_vec(),
        ),
        (200, b"GET /old HTTP/1.0\r\n\r\n".to_vec()),
        (
            200,
            b"GET /\"%22'{}|^\xc3\xa9 HTTP/1.1\r\nHost: test\r\n\r\n".to_vec(),
        ),
        (
            200,
            b"GET / HTTP/1.1\r\nHost: test\r\nUser-Agent: caf\xc3\xa9 \xff \t!\r\n\r\n".to_vec(),
        ),
    ];
    let count = requests.len();
    for (status, request) in requests {
        backend.set(Reply::status(status));
        for address in [nginx.address, ballast.address()] {
            let response = Client::connect(address).request(&request);
            assert_eq!(response.expect("a response").status, status);
        }
    }
    let files = [folder.path().join("nginx.log"), ballast.path(super::FILE)];
    let [theirs, ours] = files.map(|file| {
        let count_of = || std::fs::read_to_string(&file).map_or(0, |text| text.lines().count());
        wait_until(SOON, "all lines", || count_of() == count);
        lines(&file)
    });
    for (theirs, ours) in theirs.iter().zip(&ours) {
        let ((their_time, theirs), (our_time, ours)) = (fields(theirs), fields(ours));
        assert_eq!(ours, theirs);
        let apart = our_time.duration_since(their_time).as_secs();
        assert!((-10..=10).contains(&apart), "{apart} s");
    }
    let ours = ours.join("\n");
    assert!(ours.contains("127.0.0.1 - alice ["), "{ours}");
    assert!(!ours.contains("secret"), "{ours}");
}
