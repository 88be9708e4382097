//! The dashboard, in a browser.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{
    Backend, Ballast, Browser, Client, Connections, Load, SOON, Setup, free, wait_until,
};

/// Finds the row of a host.
fn row(host: &str) -> String {
    format!(
        "[...document.querySelectorAll('tbody tr')].find((row) => row.innerText.includes('{host}'))"
    )
}

/// Nothing went wrong on the page.
#[track_caller]
fn assert_no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn it_shows_what_becomes_of_the_hosts_and_drains_one() {
    let (listen, admin) = (free(), free());
    let Some(browser) = Browser::start(1440, 900) else {
        return;
    };
    let mut demo = Ballast::demo(listen, admin);
    let line = demo.wait_for_log(&["dashboard:"]);
    let address = line.split_whitespace().last().expect("an address");
    browser.open(address);
    browser.wait_for("document.querySelectorAll('tr.good').length === 3");
    browser.wait_for("document.querySelector('#headline').innerText === 'All 3 hosts are up'");
    // The token has left the address, where it could be seen and passed on.
    assert_eq!(browser.address(), format!("http://{admin}/"));

    let load = Load::start_paced(listen, 4, Connections::Kept, Duration::from_millis(2));
    browser.wait_for("parseFloat(document.querySelector('#process [data-is=rate]').innerText) > 0");
    browser
        .wait_for("document.querySelector('figure[data-is=latency] b').innerText.includes('ms')");
    browser.wait_for(
        "document.querySelector('figure[data-is=rate] .curve').getAttribute('d').length > 20",
    );

    let said = Client::connect(listen).post("/stop", b"").text();
    let stopped = said.split(' ').nth(2).expect("red at HOST stops");
    browser.wait_for(&format!(
        "{}.querySelector('.why').innerText.includes('connection refused')",
        row(stopped)
    ));
    let colour = browser.value(&format!(
        "getComputedStyle({}.querySelector('.pill')).backgroundColor.match(/\\d+/g).map(Number)",
        row(stopped)
    ));
    let colour: [u32; 3] = serde_json::from_value(colour).expect("red, green, blue");
    assert!(
        colour[0] > 2 * colour[1].max(colour[2]),
        "{colour:?} is red"
    );
    assert_eq!(
        browser.value(&format!(
            "{}.querySelector('[data-is=state]').innerText",
            row(stopped)
        )),
        "down"
    );
    browser.wait_for("document.querySelector('#headline').innerText === '1 of 3 hosts is out'");
    browser.wait_for(&format!(
        "document.querySelector('#events').innerText.includes('{stopped} is down')"
    ));
    browser.screenshot("light");

    browser.click("tr.good button");
    browser.wait_for(
        "document.querySelector('tr.warn .why')?.innerText.includes('drained by an operator')",
    );
    browser.wait_for("document.querySelector('#notice').innerText.includes('drains')");
    browser.wait_for("document.querySelector('tr.warn button').innerText === 'Undrain'");
    browser.click("#theme");
    browser.screenshot("dark");
    assert_eq!(
        browser.value("getComputedStyle(document.documentElement).colorScheme"),
        "dark"
    );
    browser.click("tr.warn button");
    browser.wait_for("!document.querySelector('tr.warn')");
    load.stop()
        .assert_all_ok("while one host stops and one drains");

    browser.resize(400, 900);
    browser.wait_for("innerWidth === 400");
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 400);
    browser.screenshot("narrow");
    assert_no_complaints(&browser);

    // A reload keeps the theme and the token; what it shows of the past is the process's.
    browser.open(&browser.address());
    browser.wait_for("document.querySelectorAll('tbody tr').length === 3");
    browser.wait_for(&format!(
        "document.querySelector('#events').innerText.includes('{stopped} is down')"
    ));
    assert_eq!(
        browser.value("document.documentElement.dataset.theme"),
        "dark"
    );
    assert_eq!(browser.value("sessionStorage.token.length > 20"), true);
    assert_no_complaints(&browser);

    demo.signal(Signal::SIGKILL);
    demo.wait_exit(SOON);
    browser
        .wait_for("document.querySelector('#lost').innerText.includes('has not answered since')");
    browser.wait_for("document.body.classList.contains('lost')");
    let _again = Ballast::demo(listen, admin);
    browser.wait_for("document.querySelector('#lost').hidden");
    browser.wait_for("document.querySelectorAll('tr.good').length === 3");
}

#[test]
fn it_follows_a_handover_and_asks_for_the_token() {
    let Some(browser) = Browser::start(1280, 800) else {
        return;
    };
    let backends = [Backend::start_new("a"), Backend::start_new("b")];
    let admin = free();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let token_file = folder.path().join("token");
    let token = "correct-horse-battery-staple";
    write_private(&token_file, token);
    let setup = Setup::of(&[&backends[0], &backends[1]]).top(&format!(
        "admin: {{ address: \"{admin}\", token_file: \"{}\" }}",
        token_file.display()
    ));
    let ballast = setup.start();
    wait_until(SOON, "the admin listener listens", || {
        Client::try_connect(admin).is_ok()
    });
    browser.open(&format!("http://{admin}/"));
    browser.wait_for("document.querySelectorAll('tbody tr').length === 2");
    browser.wait_for(&format!(
        "document.querySelector('footer [data-is=pid]').innerText === '{}'",
        ballast.pid()
    ));
    assert_no_complaints(&browser);

    // By the keyboard alone; its focus can be seen.
    browser.press("Tab");
    assert_eq!(browser.text(":focus"), "Skip to the pools");
    browser.press("Enter");
    browser.press("Tab");
    assert_eq!(browser.text(":focus"), "Drain");
    assert_ne!(
        browser.value("getComputedStyle(document.activeElement).outlineStyle"),
        "none"
    );
    browser.press("Enter");
    browser.wait_for("document.querySelector('#unlock').open");
    browser.enter("wrong-token-that-is-long-enough");
    browser.wait_for("document.querySelector('#refused').innerText.includes('not accepted')");
    assert!(browser.text("tbody [data-is=state]").contains("up"));
    browser.enter(token);
    browser.wait_for("document.querySelector('tbody [data-is=state]').innerText === 'draining'");
    browser.wait_for("!document.querySelector('#unlock').open");
    // The refusal is one, as it should be.
    let complaints = browser.complaints();
    assert!(
        complaints.iter().all(|line| line.contains("401")),
        "{complaints:?}"
    );

    let before = browser.text("footer [data-is=pid]");
    ballast.configure(&setup.clone().top("server: { threads: 1 }").yaml());
    let reloaded = ballast.reload();
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    browser.wait_for(&format!(
        "document.querySelector('footer [data-is=pid]').innerText !== '{before}'"
    ));
    browser.wait_for("document.querySelector('#live').innerText === 'live'");
    // What an operator did holds, and so does the page.
    assert_eq!(browser.text("tbody [data-is=state]"), "draining");
    assert_eq!(
        browser.value("document.querySelector('#lost').hidden"),
        true
    );
}

/// A file that its owner alone may read.
fn write_private(file: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, text).expect("the folder can be written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file, mode).expect("it is ours");
}
