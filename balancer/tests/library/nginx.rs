//! The ring compared with nginx: with 1,000 recorded rows, and with a running nginx where it is installed.
//!
//! `BALLAST_RECORD=1 cargo test --test library nginx` records the rows again.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballast_balancer::{Host, Selection, build};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const ROWS: usize = 1_000;

/// The hosts of the recorded rows. Each has its own loopback address, so that its port is free on every machine.
const RECORDED: [(&str, u32); 12] = [
    ("127.3.0.1:18081", 1),
    ("127.3.0.2:18081", 1),
    ("127.3.0.3:18081", 2),
    ("127.3.0.4:18081", 1),
    ("127.3.0.5:18082", 3),
    ("127.3.0.6:18082", 1),
    ("127.3.0.7:18082", 10),
    ("127.3.0.8:18083", 1),
    ("127.3.0.9:18083", 7),
    ("127.3.0.10:18084", 1),
    ("localhost:18085", 2),
    ("127.3.0.11:18086", 1),
];

fn recorded_rows_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/library/nginx_golden.tsv")
}

/// Typical keys: addresses, paths, numbers, names, long and short. All are safe in a query string.
fn keys(seed: u64) -> Vec<String> {
    let rng = &mut SmallRng::seed_from_u64(seed);
    (0..ROWS)
        .map(|i| match i % 4 {
            0 => i.to_string(),
            1 => format!(
                "10.{}.{}.{}",
                rng.r#gen::<u8>(),
                rng.r#gen::<u8>(),
                rng.r#gen::<u8>()
            ),
            2 => format!(
                "/static/{:x}/{:x}.js",
                rng.r#gen::<u16>(),
                rng.r#gen::<u64>()
            ),
            _ => (0..rng.gen_range(1..100))
                .map(|_| rng.gen_range('a'..='z'))
                .collect(),
        })
        .collect()
}

/// The host to which Ballast sends each key.
fn ballast_owners(hosts: &[(String, u32)], keys: &[String]) -> Vec<String> {
    let members = hosts.iter().map(|(id, weight)| {
        let host = Host::named(id.as_str(), "127.0.0.1:1".parse().expect("an address"));
        Arc::new(host.with_weight(*weight).expect("a weight in range"))
    });
    let balancer = build("consistent-hash", members).expect("a balancer");
    let owner = |key: &String| super::pick(&balancer, Selection::new().key(key.as_bytes()));
    keys.iter().map(|key| owner(key).to_string()).collect()
}

/// A running nginx that responds to `/?k=KEY` with the name of the host that it chose.
struct Nginx {
    process: Child,
    address: String,
    folder: PathBuf,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Without a master process, this ends all of nginx.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Nginx {
    fn start(name: &str, hosts: &[(String, u32)]) -> Option<Nginx> {
        let installed = Command::new("nginx")
            .arg("-v")
            .stderr(Stdio::null())
            .status();
        if installed.is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI must have nginx");
            println!("skipped: needs nginx");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("ballast-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let mut servers = String::new();
        let mut upstream = String::new();
        for (id, weight) in hosts {
            let _ = writeln!(upstream, "server {id} weight={weight};");
            let listen = id.replace("localhost", "127.0.0.1");
            let _ = writeln!(
                servers,
                "server {{ listen {listen}; location / {{ return 200 '{id}'; }} }}"
            );
        }
        let text = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {dir}/b;\n\
             proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
             upstream hosts {{ hash $arg_k consistent; {upstream} }}\n\
             {servers}\n\
             server {{ listen {address}; location / {{ proxy_pass http://hosts; }} }} }}\n",
            dir = folder.display(),
        );
        let conf = folder.join("nginx.conf");
        fs::write(&conf, text).expect("a file");
        let process = Command::new("nginx")
            .arg("-c")
            .arg(&conf)
            .arg("-p")
            .arg(&folder)
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let nginx = Nginx {
            process,
            address,
            folder,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&nginx.address).is_err() {
            let log = || fs::read_to_string(nginx.folder.join("error.log")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "nginx does not listen: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(10)); // between two attempts to connect
        }
        Some(nginx)
    }

    /// The host to which nginx sends each key.
    fn owners(&self, keys: &[String]) -> Vec<String> {
        let stream = TcpStream::connect(&self.address).expect("nginx listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let mut stream = BufReader::new(stream);
        let mut owner = |key: &String| {
            let request = format!("GET /?k={key} HTTP/1.1\r\nHost: x\r\n\r\n");
            stream
                .get_mut()
                .write_all(request.as_bytes())
                .expect("nginx reads");
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).expect("nginx responds");
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().expect("a length");
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("a body");
            String::from_utf8(body).expect("a name")
        };
        keys.iter().map(&mut owner).collect()
    }
}

fn differences(ours: &[String], theirs: &[String], keys: &[String]) -> Vec<String> {
    let rows = ours.iter().zip(theirs).zip(keys);
    let different = rows.filter(|((ours, theirs), _)| ours != theirs);
    different
        .map(|((ours, theirs), key)| format!("{key}: {ours}, nginx {theirs}"))
        .collect()
}

#[test]
fn a_thousand_recorded_rows_agree() {
    let hosts = RECORDED.map(|(id, weight)| (id.to_owned(), weight));
    let keys = keys(1);
    if std::env::var_os("BALLAST_RECORD").is_some() {
        let nginx = Nginx::start("golden", &hosts).expect("recording needs nginx");
        let rows = keys.iter().zip(nginx.owners(&keys));
        let text: String = rows
            .map(|(key, owner)| format!("{key}\t{owner}\n"))
            .collect();
        fs::write(recorded_rows_path(), text).expect("a file");
    }
    let recorded = fs::read_to_string(recorded_rows_path()).expect("the recorded rows");
    let rows: Vec<(&str, &str)> = recorded
        .lines()
        .map(|row| row.split_once('\t').expect("two columns"))
        .collect();
    assert_eq!(rows.len(), ROWS);
    assert!(
        rows.iter().map(|row| row.0).eq(keys.iter()),
        "recorded with other keys"
    );
    let theirs: Vec<String> = rows.iter().map(|row| row.1.to_owned()).collect();
    let different = differences(&ballast_owners(&hosts, &keys), &theirs, &keys);
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn a_running_nginx_agrees() {
    let rng = &mut SmallRng::seed_from_u64(2);
    // All listeners stay open until every port is chosen, so that no two are the same.
    let held: Vec<TcpListener> = (0..20)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    let hosts: Vec<(String, u32)> = held
        .iter()
        .map(|free| {
            (
                free.local_addr().expect("an address").to_string(),
                rng.gen_range(1..6),
            )
        })
        .collect();
    drop(held);
    let keys = keys(3);
    let Some(nginx) = Nginx::start("live", &hosts) else {
        return;
    };
    let different = differences(&ballast_owners(&hosts, &keys), &nginx.owners(&keys), &keys);
    assert!(different.is_empty(), "{different:#?}");
}
