//! The demo: what a person sees first.

use std::collections::BTreeMap;
use std::net::TcpStream;

use nix::sys::signal::Signal;

use crate::support::{Ballast, SOON, get, wait_until};

#[test]
fn the_demo_shares_requests_evenly_and_outlives_signals_to_reload() {
    let address = "127.0.0.1:8080".parse().expect("an address");
    // The demo has a fixed address; another test run on this machine may be showing it right now.
    wait_until(SOON, "127.0.0.1:8080 is free", || {
        TcpStream::connect(address).is_err()
    });
    let mut ballast = Ballast::demo(address);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..9 {
        let response = get(address, "/");
        assert_eq!(response.status, 200);
        *counts.entry(response.text()).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.values().all(|count| *count == 3), "{counts:?}");
    let said = ballast.log().join("\n");
    assert!(
        said.contains("curl") && said.contains("127.0.0.1:8080"),
        "{said}"
    );
    // Its hosts would not survive a handover, so it lives on as it is.
    ballast.signal(Signal::SIGQUIT);
    ballast.wait_for_log(&["no handover, serving on", "no file for a successor"]);
    ballast.signal(Signal::SIGHUP);
    ballast.wait_for_log(&["not reloaded", "there is no file to reload"]);
    assert_eq!(get(address, "/").status, 200);
    assert!(ballast.log_with(&["started the successor"]).is_empty());
    ballast.signal(Signal::SIGINT);
    ballast.wait_exit(SOON);
}
