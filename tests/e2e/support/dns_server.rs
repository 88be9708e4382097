//! A DNS server on loopback, by UDP and TCP, that answers and lies as a test says. It is also compiled into the library's
//! unit tests, so it needs nothing but `wait`.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
pub(crate) use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::proto::rr::rdata::{CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};

use super::wait::{SOON, wait_until};

/// What UDP carries without EDNS (RFC 1035).
const MIN_PAYLOAD: usize = 512;
/// Aliases that the server follows in its own data; enough for a circle to show.
const MAX_ALIASES: usize = 20;

/// What the server does instead of an honest answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    ServFail,
    Refused,
    NxDomain,
    /// The name is there, but has no records of this type.
    NoData,
    /// No response at all.
    Silence,
    /// Half of the records by UDP with the flag that says so, and TCP connections are closed.
    TruncatedWithoutTcp,
    /// A response by UDP and TCP whose id is right, and the rest is noise.
    Garbage,
    /// In front of the answer one with a wrong id and one to another question, which both bear no records.
    ForgeriesFirst,
    /// The records, but of another name.
    OtherName,
}

/// Runs until it is dropped.
pub(crate) struct DnsServer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    script: Mutex<Script>,
    is_stopping: AtomicBool,
}

type Key = (Name, RecordType);

#[derive(Default)]
struct Script {
    records: HashMap<Key, Vec<Record>>,
    faults: HashMap<Key, Fault>,
    /// The ids of the questions; one that is sent again has the same.
    queries: HashMap<Key, HashSet<u16>>,
    by_tcp: usize,
    is_shuffled: bool,
    leaves_aliases: bool,
    /// Turns the records of shuffled answers.
    turn: usize,
}

impl DnsServer {
    /// A server that knows no names yet.
    pub(crate) fn start() -> DnsServer {
        let (udp, tcp) = bind();
        let shared = Arc::new(Shared {
            address: udp.local_addr().expect("an address"),
            script: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        });
        let (for_udp, for_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || for_udp.serve_udp(&udp)),
            thread::spawn(move || for_tcp.serve_tcp(&tcp)),
        ];
        DnsServer { shared, threads }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The A or AAAA records of a name from now on, instead of what was there.
    pub(crate) fn set(&self, name: &str, kind: RecordType, addresses: &[&str], ttl: u32) {
        let records = addresses.iter().map(|text| {
            let ip: std::net::IpAddr = text.parse().expect("an IP address");
            RData::from(ip)
        });
        self.set_records(name, kind, records.collect(), ttl);
    }

    /// The SRV records of a name from now on, each with priority, weight, port and target.
    pub(crate) fn set_srv(&self, name: &str, targets: &[(u16, u16, u16, &str)], ttl: u32) {
        let records = targets.iter().map(|&(priority, weight, port, target)| {
            RData::SRV(SRV::new(priority, weight, port, absolute(target)))
        });
        self.set_records(name, RecordType::SRV, records.collect(), ttl);
    }

    /// Makes `name` another name of `target`.
    pub(crate) fn set_alias(&self, name: &str, target: &str, ttl: u32) {
        let record = RData::CNAME(CNAME(absolute(target)));
        self.set_records(name, RecordType::CNAME, vec![record], ttl);
    }

    fn set_records(&self, name: &str, kind: RecordType, records: Vec<RData>, ttl: u32) {
        let name = absolute(name);
        let records = records
            .into_iter()
            .map(|data| Record::from_rdata(name.clone(), ttl, data));
        let mut script = self.shared.script();
        script.faults.remove(&(name.clone(), kind));
        script
            .records
            .insert((name.clone(), kind), records.collect());
    }

    /// Answers questions like this with a fault from now on, until records are set. What the records are counts for the
    /// faults that have some.
    pub(crate) fn fail(&self, name: &str, kind: RecordType, fault: Fault) {
        let key = (absolute(name), kind);
        self.shared.script().faults.insert(key, fault);
    }

    /// Whether each answer has its records in another order.
    pub(crate) fn shuffle(&self, is_shuffled: bool) {
        self.shared.script().is_shuffled = is_shuffled;
    }

    /// Leaves it to the client to ask for what an alias stands for.
    pub(crate) fn leave_aliases(&self) {
        self.shared.script().leaves_aliases = true;
    }

    /// How many questions like this there were. One that a client sends again, since no answer has come yet, is the same.
    pub(crate) fn queries(&self, name: &str, kind: RecordType) -> usize {
        let script = self.shared.script();
        let ids = script.queries.get(&(absolute(name), kind));
        ids.map(HashSet::len).unwrap_or_default()
    }

    /// How many of all questions came by TCP.
    pub(crate) fn queries_by_tcp(&self) -> usize {
        self.shared.script().by_tcp
    }

    /// Waits for a question that has not been asked yet.
    #[track_caller]
    pub(crate) fn wait_for_query(&self, name: &str, kind: RecordType) {
        let before = self.queries(name, kind);
        let what = format!("a query for {name} {kind}");
        wait_until(SOON, &what, || self.queries(name, kind) > before);
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        // Both threads wait for something to arrive.
        let woken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.send_to(&[], self.address()));
        let connected = TcpStream::connect(self.address());
        if woken.is_ok() && connected.is_ok() {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while !self.is_stopping() {
            // Linux reports an earlier response that its receiver did not wait for.
            let Ok((length, client)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let Ok(query) = Message::from_vec(&buffer[..length]) else {
                continue;
            };
            for response in self.responses(&query, false) {
                let _ = socket.send_to(&response, client);
            }
        }
    }

    fn serve_tcp(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            if self.is_stopping() {
                break;
            }
            let shared = Arc::clone(self);
            thread::spawn(move || {
                // Ends with the connection.
                let _ = shared.serve_connection(stream);
            });
        }
    }

    fn serve_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(SOON))?;
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query)?;
            let query = Message::from_vec(&query).map_err(io::Error::other)?;
            if self.fault(&query) == Some(Fault::TruncatedWithoutTcp) {
                return Ok(());
            }
            for response in self.responses(&query, true) {
                let length = u16::try_from(response.len()).map_err(io::Error::other)?;
                stream.write_all(&[length.to_be_bytes().as_slice(), &response].concat())?;
            }
        }
    }

    fn fault(&self, query: &Message) -> Option<Fault> {
        let key = key(query)?;
        self.script().faults.get(&key).copied()
    }

    /// The messages that answer a query, in their order.
    fn responses(&self, query: &Message, is_tcp: bool) -> Vec<Vec<u8>> {
        let Some(key) = key(query) else {
            return Vec::new();
        };
        let fault = {
            let mut script = self.script();
            let ids = script.queries.entry(key.clone()).or_default();
            ids.insert(query.metadata.id);
            script.by_tcp += usize::from(is_tcp);
            script.faults.get(&key).copied()
        };
        let refusal = |code| Vec::from([bytes(&response(query, code))]);
        let mut answer = self.script().answer(query, &key);
        match fault {
            None => Vec::from([fitting(&answer, query, is_tcp)]),
            Some(Fault::ServFail) => refusal(ResponseCode::ServFail),
            Some(Fault::Refused) => refusal(ResponseCode::Refused),
            Some(Fault::NxDomain) => refusal(ResponseCode::NXDomain),
            Some(Fault::NoData) => refusal(ResponseCode::NoError),
            Some(Fault::Silence) => Vec::new(),
            Some(Fault::TruncatedWithoutTcp) => {
                answer.answers.truncate(answer.answers.len() / 2);
                answer.metadata.truncation = true;
                Vec::from([bytes(&answer)])
            }
            Some(Fault::Garbage) => {
                let mut noise = vec![0xff; 100];
                noise[..2].copy_from_slice(&query.metadata.id.to_be_bytes());
                Vec::from([noise])
            }
            Some(Fault::ForgeriesFirst) => {
                let mut wrong_id = response(query, ResponseCode::NoError);
                wrong_id.metadata.id ^= 1;
                let mut other_question = response(query, ResponseCode::NoError);
                for query in &mut other_question.queries {
                    query.set_name(absolute("other.test"));
                }
                let forgeries = [wrong_id, other_question].map(|message| bytes(&message));
                let answer = fitting(&answer, query, is_tcp);
                forgeries.into_iter().chain([answer]).collect()
            }
            Some(Fault::OtherName) => {
                for record in &mut answer.answers {
                    record.name = absolute("other.test");
                }
                Vec::from([fitting(&answer, query, is_tcp)])
            }
        }
    }
}

impl Script {
    fn answer(&mut self, query: &Message, (name, kind): &Key) -> Message {
        let is_known = |name: &Name| self.records.keys().any(|(known, _)| known == name);
        let mut end = name.clone();
        let mut records = Vec::new();
        for _ in 0..MAX_ALIASES {
            let alias = self.records.get(&(end.clone(), RecordType::CNAME));
            let Some(alias) = alias.and_then(|records| records.first()) else {
                break;
            };
            records.push(alias.clone());
            let RData::CNAME(target) = &alias.data else {
                break;
            };
            if self.leaves_aliases {
                break;
            }
            end = target.0.clone();
        }
        let code = match is_known(&end) {
            true => ResponseCode::NoError,
            false => ResponseCode::NXDomain,
        };
        let mut found = self.records.get(&(end, *kind)).cloned().unwrap_or_default();
        if self.is_shuffled && !found.is_empty() {
            self.turn += 1;
            let turn = self.turn % found.len();
            found.rotate_left(turn);
        }
        let mut answer = response(query, code);
        answer.add_answers(records.into_iter().chain(found));
        answer
    }
}

/// A socket of each kind on the same port.
fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a UDP port");
        let address = udp.local_addr().expect("an address");
        if let Ok(tcp) = TcpListener::bind(address) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for UDP and TCP")
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_str_relaxed(name).expect("a name");
    name.set_fqdn(true);
    name
}

fn key(query: &Message) -> Option<Key> {
    let question = query.queries.first()?;
    Some((question.name().clone(), question.query_type()))
}

fn response(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_queries(query.queries.clone());
    response
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message that can be encoded")
}

/// The whole answer where the transport has room for it, else none of it and the flag that says so.
fn fitting(answer: &Message, query: &Message, is_tcp: bool) -> Vec<u8> {
    let whole = bytes(answer);
    let edns = query.edns.as_ref();
    let room = edns.map_or(MIN_PAYLOAD, |edns| usize::from(edns.max_payload()));
    if is_tcp || whole.len() <= room.max(MIN_PAYLOAD) {
        return whole;
    }
    let mut truncated = answer.clone();
    truncated.answers.clear();
    truncated.metadata.truncation = true;
    bytes(&truncated)
}
