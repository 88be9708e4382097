//! What host and client see of an exchange, without what HTTP leaves open.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::generate::Exchange;
use crate::corpus::origin::Record;
use crate::corpus::wire::{self, Fields, Final, is_timeout};

/// Each observation, by its name.
pub(super) type Seen = BTreeMap<String, String>;

/// The longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(3);

/// Shows whether a connection is still open.
const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: probe.example\r\nConnection: close\r\n\r\n";

/// What a client got.
#[derive(Default)]
pub(super) struct Client {
    finals: Vec<Final>,
    /// Whether the connection served one more request.
    open: bool,
    /// Something that had to come did not.
    hangs: bool,
}

/// The number of the request that a host has got.
pub(super) fn number(record: &Record) -> Option<u64> {
    let value = record.fields.get(&b"x-exchange"[..])?.first()?;
    str::from_utf8(value).ok()?.parse().ok()
}

/// Sends an exchange on a new connection.
pub(super) fn client(address: SocketAddr, exchange: &Exchange) -> Client {
    let mut seen = Client::default();
    let mut socket = TcpStream::connect(address).expect("the proxy listens");
    let _ = socket.set_nodelay(true);
    let _ = socket.set_read_timeout(Some(PATIENCE));
    for piece in &exchange.pieces {
        // The proxy may have responded and closed before the end.
        let _ = socket.write_all(piece);
    }
    let wanted = exchange.plans.len();
    let (mut data, mut probed, mut ended) = (Vec::new(), false, false);
    let mut bytes = [0; 16 * 1024];
    loop {
        seen.finals = wire::finals(&data, exchange.to_head, ended);
        let whole = seen.finals.iter().filter(|response| response.whole).count();
        if ended {
            break;
        }
        let closes = seen.finals.last().is_some_and(closes);
        if whole >= wanted && !closes && !probed {
            probed = true;
            let _ = socket.write_all(PROBE);
        }
        match socket.read(&mut bytes) {
            Ok(0) => ended = true,
            Ok(count) => data.extend_from_slice(&bytes[..count]),
            Err(error) => {
                seen.hangs = is_timeout(&error);
                ended = true;
            }
        }
    }
    seen.open = probed && seen.finals.len() > wanted;
    seen.finals.truncate(wanted);
    if !seen.open {
        // The host's connection may have closed; the next request must not meet that.
        let mut socket = TcpStream::connect(address).expect("the proxy listens");
        let _ = socket.set_read_timeout(Some(PATIENCE));
        let _ = socket.write_all(PROBE);
        let _ = socket.read_to_end(&mut Vec::new());
    }
    seen
}

/// Whether a response says that the connection ends after it.
fn closes(response: &Final) -> bool {
    let head = response.head.to_ascii_lowercase();
    response.says_close()
        || (head.starts_with(b"http/1.0")
            && wire::find(&head, b"\r\nconnection: keep-alive").is_none())
}

/// Everything that both sides of the proxy at `address` saw.
pub(super) fn seen(
    address: SocketAddr,
    exchange: &Exchange,
    client: Client,
    records: &[Record],
) -> Seen {
    let mut seen = Seen::new();
    let port = address.port().to_string();
    let of_exchange = records.iter().filter(|record| number(record).is_some());
    let early = exchange.plans.iter().any(|(_, plan)| plan.early);
    for (at, record) in of_exchange.enumerate() {
        let of = format!("host {at}");
        let line = wire::split(&record.head, b"\r\n")
            .next()
            .unwrap_or_default();
        seen.insert(format!("{of} line"), shown(line));
        let mask = |name: &str, value: &[u8]| match name {
            "x-request-id" | "traceparent" => "masked".to_owned(),
            _ => shown(value).replace(&port, "PORT"),
        };
        fields(&mut seen, &of, &record.fields, mask);
        // An early response may cut the request off.
        if !early {
            seen.insert(format!("{of} body"), shown(&record.body));
            let trailers = shown(&record.trailers.join(&b", "[..]));
            seen.insert(format!("{of} trailers"), trailers);
            seen.insert(format!("{of} whole"), record.complete.to_string());
        }
        seen.insert(format!("{of} faults"), record.faults.join(", "));
    }
    for (at, response) in client.finals.iter().enumerate() {
        let of = format!("client {at}");
        for (at, head) in response.interim.iter().enumerate() {
            response_head(&mut seen, &format!("{of} interim {at}"), head, early);
        }
        response_head(&mut seen, &of, &response.head, early);
        // Where a reset cuts the body off depends on the operating system.
        if response.whole {
            seen.insert(format!("{of} body"), shown(&response.body));
        }
        seen.insert(format!("{of} whole"), response.whole.to_string());
    }
    seen.insert("client hangs".to_owned(), client.hangs.to_string());
    if !early {
        seen.insert("client open".to_owned(), client.open.to_string());
    }
    seen
}

fn response_head(seen: &mut Seen, of: &str, head: &[u8], early: bool) {
    let line = wire::split(head, b"\r\n").next().unwrap_or_default();
    seen.insert(format!("{of} line"), shown(line));
    let (faults, mut all) = wire::lint(head, false);
    all.remove(&b"date"[..]);
    let connection = all.get(&b"connection"[..]);
    let is_repeated = connection.is_some_and(|values| *values == [b"keep-alive"]);
    // Whether the whole request has arrived before an early response depends on the operating system.
    if early || (is_repeated && line.starts_with(b"HTTP/1.1")) {
        all.remove(&b"connection"[..]);
    }
    seen.insert(format!("{of} faults"), faults.join(", "));
    fields(seen, of, &all, |name, value| match shown(value) {
        // Each token contains its own number.
        cookie if name == "set-cookie" && cookie.starts_with("at=") => {
            let (_, attributes) = cookie.split_once(';').unwrap_or_default();
            format!("at=masked;{attributes}")
        }
        value => value,
    });
}

fn fields(seen: &mut Seen, of: &str, fields: &Fields, value: impl Fn(&str, &[u8]) -> String) {
    for (name, values) in fields {
        let name = shown(name);
        let values = values.iter().map(|one| value(&name, one));
        let values = Vec::from_iter(values).join(" | ");
        seen.insert(format!("{of} field {name}"), values);
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
