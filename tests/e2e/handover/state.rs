//! The successor keeps what its predecessor learnt about the hosts.

use crate::support::{Backend, Client, DeadHost, Reply, SOON, Setup, get, wait_until};

use super::Service;

#[test]
fn an_unhealthy_host_gets_no_request_after_a_handover() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    bad.set_health(Reply::status(503));
    let check = "{ type: http, path: /healthz, interval: 1s, timeout: 1s, rise: 1000 }";
    let service = Service::start(&Setup::of(&[&good, &bad]).health(check));
    bad.set_health(Reply::status(200));
    service.hand_over();
    let checks = bad.health_checks();
    wait_until(SOON, "the successor checks the host", || {
        bad.health_checks() > checks + 3
    });
    let mut client = Client::connect(service.ballast.address());
    for _ in 0..30 {
        assert_eq!(client.get("/").backend(), "good");
    }
    assert_eq!(bad.requests(), 0);
}

#[test]
fn an_edited_check_discards_the_known_health() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    bad.set_health(Reply::status(503));
    let check = "{ type: http, path: /healthz, interval: 1s, timeout: 1s, rise: 1000 }";
    let service = Service::start(&Setup::of(&[&good, &bad]).health(check));
    bad.set_health(Reply::status(200));
    let text = std::fs::read_to_string(service.ballast.file()).expect("the file exists");
    let edited = text.replace("rise: 1000", "rise: 999");
    std::fs::write(service.ballast.file(), edited).expect("the folder can be written");
    service.hand_over();
    let mut client = Client::connect(service.ballast.address());
    wait_until(SOON, "the host is used", || {
        client.get("/").backend() == "bad"
    });
}

#[test]
fn a_healthy_host_serves_before_its_first_check_by_the_successor() {
    let backend = Backend::start_new("a");
    let check = "{ type: http, path: /healthz, interval: 20s, timeout: 20s }";
    let service = Service::start(&Setup::of(&[&backend]).health(check));
    backend.set_health(Reply::Hang);
    service.hand_over();
    assert_eq!(get(service.ballast.address(), "/").backend(), "a");
}

#[test]
fn handovers_readmit_no_host_before_its_checks_do() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    bad.set_health(Reply::status(503));
    let check = "{ type: http, path: /healthz, interval: 60s, timeout: 1s, rise: 2 }";
    let service = Service::start(&Setup::of(&[&good, &bad]).health(check));
    bad.set_health(Reply::status(200));
    for _ in 0..3 {
        service.hand_over();
        assert_eq!(get(service.ballast.address(), "/").backend(), "good");
    }
    assert_eq!((good.health_checks(), bad.health_checks()), (1, 1));
}

#[test]
fn round_robin_continues_at_its_position() {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let setup = Setup::of(&[&backends[0], &backends[1], &backends[2]]);
    let service = Service::start(&setup);
    let next = || get(service.ballast.address(), "/").backend().to_owned();
    for expected in ["a", "b", "c", "a"] {
        assert_eq!(next(), expected);
        service.hand_over();
    }
    assert_eq!(next(), "b");
}

#[test]
fn an_edited_pool_has_only_its_new_hosts() {
    let (old, new) = (Backend::start_new("old"), Backend::start_new("new"));
    let dead = DeadHost::new();
    let setup = Setup::of(&[&old])
        .host(dead.address())
        .health("{ interval: 1s }");
    let service = Service::start(&setup);
    let text = std::fs::read_to_string(service.ballast.file()).expect("the file exists");
    let edited = text.replace(&old.address().to_string(), &new.address().to_string());
    std::fs::write(service.ballast.file(), edited).expect("the folder can be written");
    service.hand_over();
    for _ in 0..10 {
        assert_eq!(get(service.ballast.address(), "/").backend(), "new");
    }
}

#[test]
fn a_cookie_keeps_its_client_with_its_host() {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let setup = Setup::of(&backends.each_ref()).pool("sticky: { cookie: stay }");
    let service = Service::start(&setup);
    let first = get(service.ballast.address(), "/");
    let set = first.head.get("set-cookie").expect("a cookie");
    let cookie = set.split(';').next().expect("a name and a value");
    service.hand_over();
    for _ in 0..6 {
        let mut client = Client::connect(service.ballast.address());
        let response = client.get_with("/", &format!("Cookie: {cookie}\r\n"));
        assert_eq!(response.backend(), first.backend());
        assert_eq!(response.head.get("set-cookie"), None);
    }
}
