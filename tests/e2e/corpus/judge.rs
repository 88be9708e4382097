//! Compares the outcome of a case with its permitted outcomes.

use std::net::SocketAddr;

use super::case::Case;
use super::origin::{Origin, Record};
use super::wire::{self, canaries, exchange};

/// One case and the result of the check.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) case: Case,
    /// The violations; empty if the case passes.
    pub(super) faults: Vec<String>,
    /// What the client and the host saw.
    pub(super) seen: String,
}

impl Verdict {
    fn new(case: &Case, found: Vec<String>, seen: String) -> Self {
        let mut faults: Vec<String> = Vec::new();
        for fault in found {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        Verdict {
            case: case.clone(),
            faults,
            seen,
        }
    }
}

/// Sends a request and checks what reached the host and the client.
pub(super) fn request(case: &Case, proxy: SocketAddr, origin: &Origin) -> Verdict {
    let raw = case.raw();
    let seen = exchange(proxy, &raw, case.fin, case.close, None);
    let mut faults = canaries(proxy, &case.id);
    // The responses to these came after every response to the case. The host may record later what the proxy itself cut
    // off, but that record has the id of the case.
    let mut records = origin.take();
    records.retain(|record| {
        let line = wire::split(&record.head, b"\r\n").next();
        let (_, target) = line.and_then(wire::request_line).unwrap_or_default();
        let id = target
            .strip_prefix(b"/c?")
            .and_then(|id| str::from_utf8(id).ok());
        // A changed case keeps its id.
        let is_of_another_case = id.is_some_and(|id| !case.id.starts_with(id) && is_id(id));
        !is_of_another_case && !target.starts_with(b"/canary/")
    });
    let complete = records.iter().filter(|record| record.complete).count();
    let mut add = |fault: String| faults.push(fault);
    if seen.refused {
        add("CRASH".to_owned());
    }
    if seen.hangs {
        add("HANG".to_owned());
    }
    if records.len() > case.n {
        add("MULTI".to_owned());
    }
    for record in &records {
        let line = wire::split(&record.head, b"\r\n").next();
        if line.is_some_and(|line| wire::find(line, b"/smuggled").is_some()) {
            add("SMUGGLED".to_owned());
        }
        for fault in &record.faults {
            add(format!("FWD:{fault}"));
        }
    }
    match case.expect.as_str() {
        "reject" => {
            let reached = if case.stage == "body" {
                complete > 0
            } else {
                !records.is_empty()
            };
            match seen.finals.first() {
                _ if reached => add("ACCEPTED".to_owned()),
                Some(response) if response.status < 400 => {
                    add(format!("ANSWERED_{}", response.status))
                }
                _ => {}
            }
        }
        "one" if records.is_empty() => add("REFUSED".to_owned()),
        "one" if complete < case.n.min(2) && !(case.n == 1 && complete == 1) => {
            add("TRUNC".to_owned());
        }
        _ => {}
    }
    let echoed = seen
        .finals
        .iter()
        .filter(|response| response.status == 200 && response.body.starts_with(b"T="));
    if echoed.count() > case.n {
        add("EXTRA".to_owned());
    }
    for check in &case.checks {
        if let Some(fault) = checked(check, &records, case) {
            add(format!("CHECK:{fault}"));
        }
    }
    if case.close && !records.is_empty() && !seen.closed {
        add("NOT_CLOSED".to_owned());
    }
    let shown = |bytes: &[u8]| bytes[..bytes.len().min(500)].escape_ascii().to_string();
    let observed = format!(
        "host: {:?}\nclient: {}",
        Vec::from_iter(records.iter().map(|record| shown(&record.head))),
        shown(&seen.data)
    );
    Verdict::new(case, faults, observed)
}

/// Whether a query is the id of a case: a class and a number.
fn is_id(query: &str) -> bool {
    query.split_once('-').is_some_and(|(class, number)| {
        class.chars().all(|c| c.is_ascii_lowercase())
            && number.len() < 4
            && number.ends_with(|c: char| c.is_ascii_digit())
    })
}

/// What one check finds wrong.
fn checked(check: &str, records: &[Record], case: &Case) -> Option<String> {
    let (word, value) = check.split_once(':').unwrap_or((check, ""));
    let bytes: Vec<u8> = value.chars().map(|c| c as u8).collect();
    let fault = |wrong: bool, fault: &str| wrong.then(|| fault.to_owned());
    match word {
        "none" => return fault(!records.is_empty(), "forwarded"),
        "incomplete" => return fault(records.iter().any(|record| record.complete), "complete"),
        _ => {}
    }
    let record = records.first()?;
    let all = |name: &[u8]| record.fields.get(name).map_or(&[][..], Vec::as_slice);
    let joined = |name: &[u8]| all(name).join(&b","[..]).to_ascii_lowercase();
    let line = wire::split(&record.head, b"\r\n")
        .next()
        .unwrap_or_default();
    let (method, target) = wire::request_line(line).unwrap_or_default();
    match word {
        "body" => fault(record.complete && record.body != bytes, "body"),
        "method" => fault(method != bytes, "method"),
        "host" => fault(all(b"host") != [bytes], "host"),
        "absent" => fault(!all(&bytes.to_ascii_lowercase()).is_empty(), check),
        "present" => {
            let (name, wanted) = value.split_once(": ").unwrap_or((value, ""));
            let values = all(name.to_ascii_lowercase().as_bytes());
            let wrong = values.is_empty() || (!wanted.is_empty() && values != [wanted.as_bytes()]);
            fault(wrong, check)
        }
        "noupgrade" => fault(wire::find(&joined(b"upgrade"), &bytes).is_some(), check),
        "te-has" => fault(
            wire::find(&joined(b"transfer-encoding"), &bytes).is_none(),
            check,
        ),
        "te-trailers" => fault(!matches!(&joined(b"te")[..], b"" | b"trailers"), check),
        "xff" => {
            let hops = joined(b"x-forwarded-for");
            let last = hops.split(|&byte| byte == b',').next_back();
            let last = last.unwrap_or_default().trim_ascii();
            fault(!matches!(last, b"" | b"127.0.0.1"), "xff-spoof")
        }
        "target" => {
            // Several conditions are alternatives.
            let targets = case.checks.iter().filter_map(|c| c.strip_prefix("target:"));
            let mut targets = targets.map(|t| Vec::from_iter(t.chars().map(|c| c as u8)));
            fault(!targets.any(|wanted| wanted == target), check)
        }
        other => panic!("unknown check `{other}`"),
    }
}

/// Lets the host respond with a case and checks what the client got.
pub(super) fn response(case: &Case, proxy: SocketAddr) -> Verdict {
    let ask = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: probe.example\r\n\r\n").into_bytes()
    };
    let id = &case.id;
    let follow = format!("/follow/{id}");
    let first = ask(&case.method, &format!("/r/{id}"));
    let seen = exchange(proxy, &first, false, false, Some(ask("GET", &follow)));
    let mut faults = Vec::new();
    if seen.hangs {
        faults.push("HANG".to_owned());
    }
    let got = seen.finals.first();
    let status = got.map_or(0, |response| response.status);
    let whole = got.is_some_and(|response| response.whole);
    let body = got.map_or(&b""[..], |response| &response.body);
    let wanted = case.body.as_deref().map(str::as_bytes);
    if let Some(response) = got {
        let lints = wire::lint(&response.head, false).0;
        faults.extend(lints.into_iter().map(|fault| format!("FWD:{fault}")));
        for name in &case.absent {
            if response.has(name) > 0 {
                faults.push(format!("HAS-{name}"));
            }
        }
        if case
            .cookies
            .is_some_and(|count| response.has("set-cookie") != count)
        {
            faults.push("COOKIES".to_owned());
        }
    }
    if seen
        .finals
        .iter()
        .any(|response| response.body == b"poisoned")
    {
        faults.push("POISON-SAME-CONN".to_owned());
    }
    if let Some(second) = seen.finals.get(1)
        && second.status == 200
        && second.body != format!("T={follow}").as_bytes()
    {
        faults.push("DESYNC-SAME-CONN".to_owned());
    }
    match case.expect.as_str() {
        "ok" => {
            let raw = case.raw();
            let statuses = wire::finals(&raw, case.method == "HEAD", true);
            let expected = statuses.first().map_or(0, |response| response.status);
            let without = case.method == "HEAD" || matches!(status, 204 | 304);
            if status != expected {
                faults.push(format!("GOT_{status}"));
            } else if !whole {
                faults.push("INCOMPLETE".to_owned());
            } else if !without && body != wanted.unwrap_or_default() {
                faults.push("BODY".to_owned());
            }
        }
        "bad" if whole && status < 500 => faults.push(format!("COMPLETE_{status}")),
        "either" if whole && status == 200 && wanted.is_some_and(|wanted| body != wanted) => {
            faults.push("BODY".to_owned());
        }
        _ => {}
    }
    faults.extend(canaries(proxy, id));
    let data = &seen.data[..seen.data.len().min(500)];
    Verdict::new(case, faults, format!("client: {}", data.escape_ascii()))
}
