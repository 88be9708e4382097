//! The demo, which is the first thing that a new user sees.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use crate::support::{Ballast, Client, SOON, free, get, run, wait_for};

#[test]
fn the_demo_balances_evenly_and_survives_reload_signals() {
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
    let output = ballast.log().join("\n");
    for part in [format!("curl {address}"), format!("http://{admin}/#token=")] {
        assert!(output.contains(&part), "{part} in {output}");
    }
    // The hosts of the demo would not survive a handover, so the process refuses it and continues.
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
fn a_demo_host_can_be_stopped() {
    let (address, admin) = (free(), free());
    let ballast = Ballast::demo(address, admin);
    let output = Client::connect(address).post("/stop", b"").text();
    let host = output.split(' ').nth(2).expect("red at HOST stops");
    assert!(output.contains("stops for 30 seconds"), "{output}");
    ballast.wait_for_log(&[host, "is down", "refused"]);
    for _ in 0..6 {
        assert_eq!(get(address, "/").status, 200);
    }
    let rest = wait_for(SOON, "two hosts respond", || {
        let name = output.split(' ').next()?;
        let texts = [(); 4].map(|()| get(address, "/").text());
        (!texts.iter().any(|text| text.trim() == name)).then_some(texts)
    });
    assert_eq!(rest.len(), 4);
}

#[test]
fn demo_help_names_the_documented_addresses() {
    let help = run(&["demo", "--help"]).stdout;
    for address in ["127.0.0.1:8080", "127.0.0.1:9901"] {
        assert!(help.contains(address), "{help}");
    }
}
