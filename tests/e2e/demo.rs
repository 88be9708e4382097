//! The demo, as a new user sees it.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use crate::support::{Ballast, Client, SOON, free, get, run, wait_for};

#[test]
fn the_demo_shares_requests_evenly_and_outlives_signals_to_reload() {
    let (address, admin) = (free(), free());
    let mut ballast = Ballast::demo(address, admin);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..9 {
        let response = get(address, "/");
        assert_eq!(response.status, 200);
        *counts.entry(response.text()).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.values().all(|count| *count == 3), "{counts:?}");
    let said = ballast.log().join("\n");
    for part in [format!("curl {address}"), format!("http://{admin}/#token=")] {
        assert!(said.contains(&part), "{part} in {said}");
    }
    // The demo's hosts would not survive a handover, so the process continues unchanged.
    ballast.signal(Signal::SIGQUIT);
    ballast.wait_for_log(&["no handover, serving on", "no file for a successor"]);
    ballast.signal(Signal::SIGHUP);
    ballast.wait_for_log(&["not reloaded", "there is no file to reload"]);
    assert_eq!(get(address, "/").status, 200);
    assert!(ballast.log_with(&["started the successor"]).is_empty());
    ballast.signal(Signal::SIGINT);
    ballast.wait_exit(SOON);
}

#[test]
fn a_demo_host_stops_when_it_is_asked_to() {
    let (address, admin) = (free(), free());
    let ballast = Ballast::demo(address, admin);
    let said = Client::connect(address).post("/stop", b"").text();
    let host = said.split(' ').nth(2).expect("red at HOST stops");
    assert!(said.contains("stops for 30 seconds"), "{said}");
    ballast.wait_for_log(&[host, "is down", "refused"]);
    for _ in 0..6 {
        assert_eq!(get(address, "/").status, 200);
    }
    let rest = wait_for(SOON, "two hosts answer", || {
        let name = said.split(' ').next()?;
        let texts = [(); 4].map(|()| get(address, "/").text());
        (!texts.iter().any(|text| text.trim() == name)).then_some(texts)
    });
    assert_eq!(rest.len(), 4);
}

#[test]
fn the_demo_is_where_the_documents_say() {
    let help = run(&["demo", "--help"]).stdout;
    for address in ["127.0.0.1:8080", "127.0.0.1:9901"] {
        assert!(help.contains(address), "{help}");
    }
}
