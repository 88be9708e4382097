//! The DNS server of the tests. What it lies about is shown by the unit tests of the lookups.

use std::net::UdpSocket;
use std::thread;

use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData};

use crate::support::{DnsServer, Fault, RecordType, SOON};

/// A client by UDP, without any library between.
struct Asker<'a> {
    server: &'a DnsServer,
    socket: UdpSocket,
}

impl Asker<'_> {
    fn new(server: &DnsServer) -> Asker<'_> {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        Asker { server, socket }
    }

    /// Sends a question and gives its id.
    fn send(&self, name: &str, kind: RecordType) -> u16 {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        let bytes = query.to_vec().expect("a query");
        let sent = self.socket.send_to(&bytes, self.server.address());
        sent.expect("sent");
        query.metadata.id
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a response");
        buffer[..length].to_vec()
    }
}

fn ask(server: &DnsServer, name: &str, kind: RecordType) -> Message {
    let asker = Asker::new(server);
    asker.send(name, kind);
    Message::from_vec(&asker.receive()).expect("a message")
}

#[test]
fn it_answers_as_it_is_told_and_counts() {
    let server = DnsServer::start();
    server.set("app.test.", RecordType::A, &["10.0.0.1", "10.0.0.2"], 7);
    let answer = ask(&server, "app.test.", RecordType::A);
    assert_eq!(answer.answers.len(), 2);
    assert_eq!(answer.answers[0].ttl, 7);
    let code = |name, kind| ask(&server, name, kind).metadata.response_code;
    assert_eq!(code("app.test.", RecordType::AAAA), ResponseCode::NoError);
    assert_eq!(code("other.test.", RecordType::A), ResponseCode::NXDomain);
    let faults = [
        (Fault::ServFail, ResponseCode::ServFail),
        (Fault::Refused, ResponseCode::Refused),
        (Fault::NxDomain, ResponseCode::NXDomain),
        (Fault::NoData, ResponseCode::NoError),
    ];
    for (fault, expected) in faults {
        server.fail("app.test", RecordType::A, fault);
        assert_eq!(code("app.test.", RecordType::A), expected);
    }
    assert_eq!(server.queries("app.test", RecordType::A), 5);
    assert_eq!(server.queries_by_tcp(), 0);

    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.wait_for_query("late.test", RecordType::A));
        while !waiting.is_finished() {
            ask(&server, "late.test.", RecordType::A);
        }
    });
}

#[test]
fn it_knows_aliases_and_services_and_turns_its_answers() {
    let server = DnsServer::start();
    server.set("app.test", RecordType::A, &["10.0.0.1", "10.0.0.2"], 7);
    server.set_alias("www.test", "app.test", 7);
    server.set_srv("_http._tcp.app.test", &[(1, 2, 80, "app.test")], 7);
    let answer = ask(&server, "_http._tcp.app.test.", RecordType::SRV);
    assert!(matches!(&answer.answers[0].data, RData::SRV(record) if record.port == 80));
    assert_eq!(ask(&server, "www.test.", RecordType::A).answers.len(), 3);
    server.shuffle(true);
    let turned = [(); 2].map(|()| ask(&server, "app.test.", RecordType::A).answers);
    assert_ne!(turned[0], turned[1]);
    server.leave_aliases();
    assert_eq!(ask(&server, "www.test.", RecordType::A).answers.len(), 1);
}

#[test]
fn it_lies_and_is_silent() {
    let server = DnsServer::start();
    let addresses = ["10.0.0.1", "10.0.0.2"];
    server.set("app.test", RecordType::A, &addresses, 7);
    let with = |fault| server.fail("app.test", RecordType::A, fault);
    with(Fault::TruncatedWithoutTcp);
    let answer = ask(&server, "app.test.", RecordType::A);
    assert!(answer.metadata.truncation && answer.answers.len() == 1);
    with(Fault::OtherName);
    let answer = ask(&server, "app.test.", RecordType::A);
    assert_eq!(answer.answers[0].name.to_string(), "other.test.");

    let asker = Asker::new(&server);
    with(Fault::ForgeriesFirst);
    let id = asker.send("app.test.", RecordType::A);
    let received = [(); 3].map(|()| Message::from_vec(&asker.receive()).expect("a message"));
    let counts = received.each_ref().map(|message| message.answers.len());
    assert_eq!(counts, [0, 0, 2]);
    let is_right = received.map(|message| message.metadata.id == id);
    assert_eq!(is_right, [false, true, true]);

    with(Fault::Garbage);
    let id = asker.send("app.test.", RecordType::A);
    let noise = asker.receive();
    assert_eq!(noise[..2], id.to_be_bytes());
    Message::from_vec(&noise).expect_err("noise");

    with(Fault::Silence);
    asker.send("app.test.", RecordType::A);
    let id = asker.send("next.test.", RecordType::A);
    assert_eq!(asker.receive()[..2], id.to_be_bytes());
}
