//! The dashboard, tested in a browser.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{
    Backend, Ballast, Browser, Client, Connections, Load, SOON, Setup, free, wait_until,
};

/// A JavaScript expression that finds the row of a host.
fn row(host: &str) -> String {
    format!(
        "[...document.querySelectorAll('tbody tr')].find((row) => row.innerText.includes('{host}'))"
    )
}

/// Asserts that the browser reported no errors on the page.
#[track_caller]
fn assert_no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn it_shows_the_states_of_hosts_and_drains_one() {
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
    // The page has removed the token from its address, where other people could see it or copy it.
    assert_eq!(browser.address(), format!("http://{admin}/"));

    let load = Load::start_paced(listen, 4, Connections::Kept, Duration::from_millis(2));
    browser.wait_for("parseFloat(document.querySelector('#process [data-is=rate]').innerText) > 0");
    browser
        .wait_for("document.querySelector('figure[data-is=latency] b').innerText.includes('ms')");
    browser.wait_for(
        "document.querySelector('figure[data-is=rate] .curve').getAttribute('d').length > 20",
    );

    browser.wait_for(
        "document.querySelector('tbody [data-is=errors]').innerText === '0 %' \
         && document.querySelector('figure[data-is=errors] b').innerText === '0 %'",
    );
    // Without errors the chart has no curve.
    for curve in [".curve", ".area"] {
        let drawn =
            format!("document.querySelector('figure[data-is=errors] {curve}').getAttribute('d')");
        assert_eq!(browser.value(&drawn), "", "{curve}");
    }
    browser.wait_for(
        "document.querySelector('figure[data-is=rate] .legend').innerText.startsWith('2xx')",
    );
    browser.wait_for(
        "document.querySelector('figure[data-is=bytes]').innerText.match(/out\\s+[\\d.]+ k?B/)",
    );
    browser.wait_for("document.querySelector('figure[data-is=retries] b').innerText === '0'");

    let text = Client::connect(listen).post("/stop", b"").text();
    let stopped = text.split(' ').nth(2).expect("red at HOST stops");
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
    // The headline and the pool show the same sentence.
    let summary = "2 of 3 hosts usable: 1 down";
    browser.wait_for(&format!(
        "document.querySelector('#headline').innerText === '{summary}'"
    ));
    assert_eq!(browser.text(".pool .usable"), summary);
    assert_eq!(
        browser.text("#process [data-is=usable]"),
        "2of3",
        "with spaces by the style"
    );
    browser.wait_for(&format!(
        "document.querySelector('#events').innerText.includes('{stopped} is down')"
    ));
    // The row and the events show the host by the name that the host uses for itself.
    let name = text.split(' ').next().expect("red at HOST stops");
    let shown = format!("{}.querySelector('[data-is=id]').innerText", row(stopped));
    assert_eq!(browser.value(&shown), name);
    browser.wait_for(&format!(
        "[...document.querySelectorAll('#events b')].some((event) => event.innerText === '{name}')"
    ));
    browser.screenshot("light");

    browser.click("tr.good button");
    browser.wait_for(
        "document.querySelector('tr.warn .why')?.innerText.includes('drained by an operator')",
    );
    browser.wait_for("document.querySelector('#notice').innerText.includes('is draining')");
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

    // A reload keeps the theme and the token. The history comes from the process.
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
        .wait_for("document.querySelector('#lost').innerText.includes('has not responded since')");
    browser.wait_for("document.title === '⚠ The process does not respond – Ballast'");
    browser.wait_for("document.body.classList.contains('lost')");
    let _again = Ballast::demo(listen, admin);
    browser.wait_for("document.querySelector('#lost').hidden");
    browser.wait_for("document.querySelectorAll('tr.good').length === 3");
    browser.wait_for("document.title === 'All 3 hosts are up – Ballast'");
}

#[test]
fn it_reconnects_after_a_handover_and_asks_for_the_token() {
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

    // The keyboard alone is enough, and the focus is visible.
    browser.press("Tab");
    assert_eq!(browser.text(":focus"), "Skip to the pools");
    browser.press("Enter");
    browser.press("Tab");
    assert_eq!(browser.text(":focus"), "web");
    // The focus moves past the charts and the column headings.
    for _ in 0..20 {
        if browser.text(":focus") == "Drain" {
            break;
        }
        browser.press("Tab");
    }
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
    // The only complaints are about the status 401, which the test expects.
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
    // The page keeps the state that an operator has set.
    assert_eq!(browser.text("tbody [data-is=state]"), "draining");
    assert_eq!(
        browser.value("document.querySelector('#lost').hidden"),
        true
    );
}

/// A process with an admin listener, and a browser with the dashboard open. `None` without a browser.
pub(crate) fn opened(setup: &Setup) -> Option<(Ballast, Browser)> {
    let browser = Browser::start(1440, 900)?;
    let admin = free();
    let setup = setup
        .clone()
        .top(&format!("admin: {{ address: \"{admin}\" }}"));
    let ballast = setup.start();
    wait_until(SOON, "the admin listener listens", || {
        Client::try_connect(admin).is_ok()
    });
    browser.open(&format!("http://{admin}/"));
    browser.wait_for("document.querySelectorAll('tbody tr').length > 0");
    Some((ballast, browser))
}

#[test]
fn the_title_shows_that_the_process_has_ended_and_recovers() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]).top("server: { drain_delay: 2s }");
    let Some((mut ballast, browser)) = opened(&setup) else {
        return;
    };
    browser.wait_for("document.title === 'The host is up – Ballast'");
    ballast.signal(Signal::SIGTERM);
    browser.wait_for("document.title.includes('Shutting down')");
    ballast.wait_exit(SOON);
    browser.wait_for("document.title === '⚠ The process has ended – Ballast'");
    assert_eq!(browser.text("#headline"), "The process has ended");
    assert!(browser.text("#lost").contains("after a shutdown"));
    let _again = ballast.successor_with(&[]);
    browser.wait_for("document.title === 'The host is up – Ballast'");
    browser.wait_for("document.querySelector('#lost').hidden");
}

#[test]
fn a_drained_host_that_serves_everything_is_shown_as_last_resort() {
    let backends = [Backend::start_new("a"), Backend::start_new("b")];
    let Some((ballast, browser)) = opened(&Setup::of(&[&backends[0], &backends[1]])) else {
        return;
    };
    for backend in &backends {
        let drained = ballast.command(&["drain", &backend.address().to_string()]);
        assert_eq!(drained.code, Some(0), "{drained:?}");
    }
    let headline = "No usable host in web: draining hosts serve as last resort";
    browser.wait_for(&format!(
        "document.querySelector('#headline').innerText === '{headline}'"
    ));
    assert_eq!(
        browser.text(".alarm"),
        "No host is usable: draining hosts serve as last resort."
    );
    assert_eq!(browser.text(".usable"), "0 of 2 hosts usable: 2 draining");
    assert!(
        browser
            .text("tbody .why")
            .starts_with("drained by an operator; serving as last resort"),
        "{}",
        browser.text("tbody .why")
    );
    assert_eq!(crate::support::get(ballast.address(), "/").status, 200);
}

#[test]
fn charts_show_values_at_the_pointer_and_by_keyboard() {
    let backend = Backend::start_new("a");
    let Some((ballast, browser)) = opened(&Setup::of(&[&backend])) else {
        return;
    };
    let load = Load::start_paced(
        ballast.address(),
        2,
        Connections::Kept,
        Duration::from_millis(5),
    );
    browser.wait_for("samplesByPool.get('web')?.filter((sample) => sample.p99_ms).length > 3");
    let when = "figure[data-is=latency] .scale span";
    assert_eq!(browser.text(when), "5 min");
    // The middle of the chart is before the start of the process, so the oldest sample is the nearest one.
    browser.hover("figure[data-is=latency] .plot");
    browser.wait_for(&format!(
        "document.querySelector('{when}').innerText.match(/^\\d\\d:\\d\\d:\\d\\d, .*ago$/)"
    ));
    // All charts of the pool share one crosshair.
    assert_ne!(
        browser.value("document.querySelector('figure[data-is=rate] .cross').getAttribute('d')"),
        ""
    );
    browser.hover("h1");
    browser.wait_for(&format!(
        "document.querySelector('{when}').innerText === '5 min'"
    ));
    browser.value("document.querySelector('figure[data-is=latency] .plot').focus()");
    browser.press("ArrowLeft");
    browser.press("ArrowLeft");
    let value_text = "document.activeElement.ariaValueText";
    browser.wait_for(&format!(
        "{value_text}.match(/^\\d\\d:\\d\\d:\\d\\d: p50 [\\d.]+ ms, p99 [\\d.]+ ms$/)"
    ));
    browser.press("Escape");
    browser.wait_for(&format!("{value_text}.startsWith('now: ')"));
    load.stop().assert_all_ok("load");

    // The two curves are far apart, and both use the height of the chart.
    let heights = browser.value(
        "(() => {
            const samples = Array.from({ length: 60 }, (_, nth) => ({
                t: nth * 1000, p50_ms: 1 + nth % 2, p99_ms: 400 + nth,
            }));
            const chart = new Chart(CHARTS.find(({ id }) => id === 'latency'), { samples: () => samples, recent: () => false });
            chart.draw(samples, -1);
            return chart.lines.map((line) => {
                const heights = line.getAttribute('d').match(/ [\\d.]+/g).map(Number);
                return Math.max(...heights) - Math.min(...heights);
            });
        })()",
    );
    let heights: [f64; 2] = serde_json::from_value(heights).expect("two heights");
    assert!(heights[0] > 3.0, "the median moves by {} of 40", heights[0]);
    assert_no_complaints(&browser);
}

#[test]
fn many_pools_of_many_hosts_can_be_filtered_and_sorted() {
    let backend = Backend::start_new("a");
    let port = backend.address().port();
    let pools = (0..12).map(|pool| {
        let hosts = (0..128).map(|host| {
            let ip = format!("127.{}.0.{}", pool + 1, host + 1);
            format!("{{ address: \"{ip}:{port}\", name: app-{pool}-{host} }}")
        });
        let hosts = Vec::from_iter(hosts).join(", ");
        format!("  pool{pool}: {{ health_check: none, hosts: [{hosts}] }}\n")
    });
    let admin = free();
    let routes = (0..12).map(|pool| format!("{{ path: /{pool}, pool: pool{pool} }}"));
    let yaml = format!(
        "listeners: [\"LISTEN\"]\nadmin: {{ address: \"{admin}\" }}\nroutes: [{}]\npools:\n{}",
        Vec::from_iter(routes).join(", "),
        pools.collect::<String>()
    );
    let Some(browser) = Browser::start(1440, 900) else {
        return;
    };
    let ballast = Ballast::start(&yaml);
    wait_until(SOON, "the admin listener listens", || {
        Client::try_connect(admin).is_ok()
    });
    let address = format!("http://{admin}/");
    browser.open(&address);
    browser.wait_for("document.querySelectorAll('.pool').length === 12");
    let number = |expression: &str| browser.value(expression).as_f64().expect("a number");
    assert!(number("document.documentElement.scrollHeight") < 2000.0);
    assert_eq!(number("document.querySelectorAll('tbody tr').length"), 0.0);
    browser.wait_for("document.querySelector('.summary').innerText.includes('requests/s')");

    // A click opens a pool, and the page shows the first of its hosts. The address stores that.
    browser.click(".pool .fold");
    browser.wait_for("document.querySelectorAll('tbody tr').length === 50");
    assert_eq!(browser.address(), format!("{address}#open=pool0"));
    browser.click(".more button");
    browser.wait_for("document.querySelectorAll('tbody tr').length === 128");

    // Hosts with problems come first.
    let host = format!("127.1.0.100:{port}");
    let drained = ballast.command(&["drain", &host]);
    assert_eq!(drained.code, Some(0), "{drained:?}");
    browser.wait_for("document.querySelector('tbody [data-is=id]').innerText === 'app-0-99'");
    browser.click("#problems");
    browser.wait_for("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.text("#found"), "1 host in 1 pool of 12");
    browser.click("#clear");

    browser.value("document.querySelector('#filter').focus()");
    browser.write("pool7 APP-7-12");
    browser.wait_for("document.querySelectorAll('tbody tr').length === 9");
    assert_eq!(browser.text("#found"), "9 hosts in 1 pool of 12");
    assert_eq!(
        number("[...document.querySelectorAll('.pool')].filter((pool) => !pool.hidden).length"),
        1.0
    );
    browser.click(".open [data-sort=host]");
    browser.click(".open [data-sort=host]");
    browser
        .wait_for("document.querySelector('.open tbody [data-is=id]').innerText === 'app-7-127'");
    assert_eq!(
        browser.value("document.querySelector('.open th').ariaSort"),
        "descending"
    );
    // The link shows the same view to other people.
    let link = browser.address();
    assert!(
        link.contains("filter=pool7+APP-7-12") && link.contains("sort=-host"),
        "{link}"
    );
    browser.open("about:blank");
    browser.open(&link);
    browser.wait_for("document.querySelectorAll('tbody tr').length === 9");
    browser
        .wait_for("document.querySelector('.open tbody [data-is=id]').innerText === 'app-7-127'");

    // With all pools open, the number of rows stays bounded.
    browser.open("about:blank");
    browser.open(&format!("{address}#pools=open"));
    browser.wait_for("document.querySelectorAll('.pool.open').length === 12");
    assert!(number("document.querySelectorAll('tbody tr').length") <= 600.0);
    assert_no_complaints(&browser);
}

/// Writes a file that only its owner may read.
fn write_private(file: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, text).expect("the folder can be written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file, mode).expect("the test owns the file");
}
