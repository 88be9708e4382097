//! Backup hosts serve while no primary host does.

use crate::support::{Backend, Client, DeadHost, HEALTH_PATH, Reply, SOON, Setup, wait_until};

#[test]
fn backups_serve_only_while_no_primary_does() {
    let [a, b, backup] = ["a", "b", "backup"].map(Backend::start_new);
    let ballast = Setup::of(&[&a, &b])
        .host_entry(&format!(
            "{{ address: \"{}\", backup: true }}",
            backup.address()
        ))
        .health(&format!(
            "{{ type: http, path: {HEALTH_PATH}, interval: 1s, timeout: 1s, rise: 1, fall: 1 }}"
        ))
        .start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..20 {
        assert_ne!(client.get("/").backend(), "backup");
    }
    a.set_health(Reply::status(500));
    ballast.wait_for_log(&[&a.address().to_string(), "is down"]);
    // The log line comes a moment before the process acts on it.
    wait_until(SOON, "the other host serves", || {
        client.get("/").backend() == "b" && client.get("/").backend() == "b"
    });
    for _ in 0..20 {
        assert_eq!(client.get("/").backend(), "b");
    }
    b.set_health(Reply::status(500));
    ballast.wait_for_log(&[&b.address().to_string(), "is down"]);
    wait_until(SOON, "the backup serves", || {
        client.get("/").backend() == "backup"
    });
    a.set_health(Reply::ok());
    wait_until(SOON, "the primary is back", || {
        client.get("/").backend() == "a"
    });
    let before = backup.requests();
    for _ in 0..20 {
        assert_eq!(client.get("/").backend(), "a");
    }
    assert_eq!(backup.requests(), before);
}

#[test]
fn a_request_that_no_primary_takes_goes_to_a_backup() {
    let backup = Backend::start_new("backup");
    let ballast = Setup::of(&[])
        .host(DeadHost::new().address())
        .host_entry(&format!(
            "{{ address: \"{}\", backup: true }}",
            backup.address()
        ))
        .start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..10 {
        assert_eq!(client.get("/").backend(), "backup");
    }
}
