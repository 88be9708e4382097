//! Changes that operators make during a handover: the successor has every change that was acknowledged.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Service, yaml};
use crate::support::{Backend, Ballast, Client, LISTEN, SOON, Setup, free, get, wait_until};

const TOKEN: &str = "a-token-of-more-than-16-bytes";

const CONTROL: &str = "server: { pid_file: pid, control_socket: control, upgrade_socket: up/s }";

/// A response over the control socket; `None` if there is none.
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    exchange(UnixStream::connect(socket).ok()?, method, path, body)
}

fn exchange(mut stream: UnixStream, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    stream.set_read_timeout(Some(SOON)).ok()?;
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    let status = response.split(' ').nth(1)?.parse().ok()?;
    Some((status, response))
}

fn read(socket: &Path, path: &str) -> Option<Value> {
    let (status, response) = ask(socket, "GET", path, "")?;
    assert_eq!(status, 200, "{response}");
    serde_json::from_str(response.split_once("\r\n\r\n")?.1).ok()
}

/// The error for a change during a handover.
#[track_caller]
fn assert_refused(response: &str) {
    assert!(response.contains("503"), "{response}");
    let head = response.to_ascii_lowercase();
    assert!(head.contains("retry-after: 1"), "{response}");
    assert!(
        response.contains("a handover is under way; ask again"),
        "{response}"
    );
}

/// Runs `work` repeatedly during `times` handovers. `work` returns whether a change was acknowledged; some changes fall
/// between two handovers.
#[track_caller]
fn during_handovers(service: &Service, times: usize, work: impl Fn() -> bool + Send + Sync) {
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                acknowledged.fetch_add(u64::from(work()), Ordering::Relaxed);
            }
        });
        for _ in 0..times {
            let enough = acknowledged.load(Ordering::Relaxed) + 5;
            wait_until(SOON, "changes are acknowledged", || {
                worker.is_finished() || acknowledged.load(Ordering::Relaxed) >= enough
            });
            if worker.is_finished() {
                break;
            }
            service.hand_over();
        }
        stop.store(true, Ordering::Relaxed);
        worker.join().expect("the writer does not panic");
    });
}

fn start(setup: &Setup) -> (Service, PathBuf) {
    let service = Service::from_process(Ballast::start(&setup.clone().top(CONTROL).yaml()));
    let socket = service.ballast.path("control");
    wait_until(SOON, "the control socket exists", || socket.exists());
    (service, socket)
}

/// The ids of all hosts and of the drained hosts, as reported by the serving process.
fn hosts(socket: &Path) -> Option<Value> {
    Some(read(socket, "/api/v1/pools/web")?["hosts"].clone())
}

fn is_drained(host: &Value) -> bool {
    let mut changed = host["operator"].as_array().into_iter().flatten();
    changed.any(|changed| {
        changed
            .as_str()
            .is_some_and(|text| text.starts_with("drained"))
    })
}

#[test]
fn the_successor_has_each_acknowledged_change() {
    let backend = Backend::start_new("a");
    let (service, socket) = start(&Setup::of(&[&backend]));
    let path = "/api/v1/pools/web/hosts";
    let next = AtomicU64::new(1);
    let (acknowledged, refused) = (std::sync::Mutex::new(BTreeSet::new()), AtomicU64::new(0));
    during_handovers(&service, 3, || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let id = format!("127.9.{}.{}:9", number / 250, number % 250 + 1);
        // A third of the hosts are also drained or get another weight.
        let added = ask(
            &socket,
            "POST",
            path,
            &format!("{{\"address\":\"{id}\",\"backup\":true}}"),
        );
        let Some((201, _)) = added else {
            if let Some((503, response)) = added {
                assert_refused(&response);
                refused.fetch_add(1, Ordering::Relaxed);
            }
            return false;
        };
        let host = format!("{path}/{}", id.replace(':', "%3A"));
        let mut state = (id, "1".to_owned(), false);
        match number % 3 {
            0 => {
                if let Some((200, _)) = ask(&socket, "POST", &format!("{host}/drain"), "") {
                    state.2 = true;
                } else {
                    return false;
                }
            }
            1 => {
                if let Some((200, _)) = ask(&socket, "PATCH", &host, "{\"weight\":7}") {
                    state.1 = "7".to_owned();
                } else {
                    return false;
                }
            }
            _ => {}
        }
        acknowledged.lock().expect("no panic").insert(state);
        thread::sleep(Duration::from_millis(2));
        true
    });
    let acknowledged = acknowledged.into_inner().expect("no panic");
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    let found = hosts(&socket).expect("the control socket responds");
    let found: BTreeSet<_> = found
        .as_array()
        .expect("hosts")
        .iter()
        .map(|host| {
            let id = host["id"].as_str().expect("an id").to_owned();
            (id, host["weight"].to_string(), is_drained(host))
        })
        .collect();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
    println!(
        "{} changes acknowledged, {} refused",
        acknowledged.len(),
        refused.into_inner()
    );
    assert_eq!(get(service.ballast.address(), "/").backend(), "a");
}

#[test]
fn the_successor_has_each_acknowledged_reload() {
    let backend = Backend::start_new("a");
    let (service, socket) = start(&Setup::of(&[&backend]));
    let original = std::fs::read_to_string(service.ballast.file()).expect("the file exists");
    let own = format!("\"{}\"", backend.address());
    let weight = AtomicU64::new(1);
    during_handovers(&service, 3, || {
        let weight = weight.fetch_add(1, Ordering::Relaxed) + 1;
        let host = format!("{{ address: {own}, weight: {weight} }}");
        let new = service.ballast.path("new");
        std::fs::write(&new, original.replace(&own, &host)).expect("the file can be written");
        std::fs::rename(&new, service.ballast.file()).expect("the file can be written");
        match ask(&socket, "POST", "/api/v1/reload", "") {
            Some((200, _)) => {
                // Either process may receive this request.
                let found = std::iter::repeat_with(|| hosts(&socket)).find_map(|hosts| hosts);
                assert_eq!(found.expect("hosts")[0]["weight"], weight);
                return true;
            }
            Some((503, response)) => assert_refused(&response),
            Some((status, response)) => panic!("{status}: {response}"),
            None => {}
        }
        false
    });
}

#[test]
fn a_process_that_has_handed_over_refuses_changes() {
    let backend = Backend::start_new("a");
    let (service, socket) = start(&Setup::of(&[&backend]));
    let drain = format!("/api/v1/drain?host={}", backend.address());
    for (method, path, body) in [
        ("POST", &*drain, ""),
        ("PUT", "/api/v1/log-level", "{\"level\":\"info\"}"),
        ("POST", "/api/v1/reload", ""),
    ] {
        let old = UnixStream::connect(&socket).expect("the control socket responds");
        // The predecessor has accepted the connection once it has responded on a later one.
        read(&socket, "/api/v1/version").expect("a response");
        service.hand_over();
        let (_, response) = exchange(old, method, path, body).expect("a response");
        assert_refused(&response);
        wait_until(SOON, "the successor takes changes", || {
            ask(&socket, method, path, body).is_some_and(|(status, _)| status == 200)
        });
        ask(&socket, "POST", &drain.replace("drain", "undrain"), "").expect("a response");
    }
}

#[test]
fn changes_over_tcp_are_refused_or_kept() {
    let backend = Backend::start_new("a");
    let admin = free();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).expect("the file can be written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&token, private).expect("the test owns the file");
    let setup = Setup::of(&[&backend]).top(&format!(
        "admin: {{ address: \"{admin}\", token_file: {} }}",
        token.display()
    ));
    let (service, _) = start(&setup);
    let ask = |method: &str, path: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n"
        );
        let response = Client::try_connect(admin).and_then(|mut admin| admin.request(request));
        response
            .ok()
            .map(|response| (response.status, response.text()))
    };
    let host = format!(
        "/api/v1/pools/web/hosts/{}",
        backend.address().to_string().replace(':', "%3A")
    );
    let drained = || {
        let (status, text) = std::iter::repeat_with(|| ask("GET", &host))
            .find_map(|response| response)
            .expect("a response");
        assert_eq!(status, 200, "{text}");
        is_drained(&serde_json::from_str(&text).expect("JSON"))
    };
    during_handovers(&service, 3, || {
        let wanted = !drained();
        let verb = if wanted { "drain" } else { "undrain" };
        if let Some((200, _)) = ask("POST", &format!("{host}/{verb}")) {
            assert_eq!(drained(), wanted);
            return true;
        }
        false
    });
}

#[test]
fn after_a_failed_handover_changes_are_accepted_again() {
    let backend = Backend::start_new("a");
    let (service, socket) = start(&Setup::of(&[&backend]));
    let good = std::fs::read_to_string(service.ballast.file()).expect("the file exists");
    std::fs::write(service.ballast.file(), format!("{good}nonsense: 1\n")).expect("written");
    service.fail_to_hand_over();
    std::fs::write(service.ballast.file(), good).expect("written");
    let drain = format!("/api/v1/drain?host={}", backend.address());
    assert_eq!(ask(&socket, "POST", &drain, "").expect("a response").0, 200);
    assert_eq!(
        ask(&socket, "POST", "/api/v1/reload", "")
            .expect("a response")
            .0,
        200
    );
}

#[test]
fn the_successor_keeps_the_log_level() {
    let backend = Backend::start_new("a");
    let (service, socket) = start(&Setup::of(&[&backend]));
    let level = "{\"level\":\"info,pingora=error\"}";
    for _ in 0..2 {
        if read(&socket, "/api/v1/log-level").expect("a response")["level"] == "info" {
            let set = ask(&socket, "PUT", "/api/v1/log-level", level);
            assert_eq!(set.expect("a response").0, 200);
        }
        let before = service.hand_over();
        wait_until(SOON, "the successor responds", || {
            let version = read(&socket, "/api/v1/version");
            version.is_some_and(|version| version["pid"] != before.as_raw())
        });
        let document = read(&socket, "/api/v1/log-level").expect("a response");
        assert_eq!(document["level"], "info,pingora=error");
    }
}

#[test]
fn a_waiting_successor_applies_later_reloads() {
    let backend = Backend::start_new("a");
    let service = Service::start(&Setup::of(&[&backend]));
    let socket = service.ballast.path("control");
    let successor = service.ballast.successor();
    successor.wait_for_log(&["prepared; waiting"]);
    let host = format!("{{ address: \"{}\", weight: 5 }}", backend.address());
    let edited = yaml(&Setup::of(&[]).host_entry(&host));
    let edited = edited.replace(LISTEN, &service.ballast.address().to_string());
    std::fs::write(service.ballast.file(), edited).expect("the folder can be written");
    let (status, response) = ask(&socket, "POST", "/api/v1/reload", "").expect("a response");
    assert_eq!(status, 200, "{response}");
    service.signal(Signal::SIGQUIT);
    wait_until(SOON, "the successor serves", || {
        service.serving() == successor.pid()
    });
    successor.wait_for_log(&["reloaded in place", "weight"]);
    wait_until(SOON, "the successor has the reloaded configuration", || {
        hosts(&socket).is_some_and(|hosts| hosts[0]["weight"] == 5)
    });
}
