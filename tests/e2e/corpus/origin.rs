//! Hosts that record every byte they get, or send bytes that no server should send.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;

use super::case::Case;
use super::wire::{self, Fields};
use crate::support::free;

/// A head that makes no progress for this long is treated as unfinished for good.
const PARTIAL: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(10);

/// A request as the host saw it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Record {
    /// Without the empty line.
    pub(crate) head: Vec<u8>,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Vec<u8>>,
    pub(crate) complete: bool,
    pub(crate) faults: Vec<&'static str>,
}

/// What a host does with a request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Plan {
    /// The response, piece by piece.
    pub(crate) pieces: Vec<Vec<u8>>,
    /// The response is sent before the body is read.
    pub(crate) early: bool,
    /// The connection is closed after the response.
    pub(crate) close: bool,
}

type Planned = dyn Fn(&Record) -> Option<Plan> + Send + Sync;
type Serve = dyn Fn(&mut Connection) -> io::Result<()> + Send + Sync;

/// A listening host. It stops when dropped.
pub(crate) struct Origin {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    records: Arc<Mutex<Vec<Record>>>,
}

impl Origin {
    /// A host that records its requests and responds with their targets.
    pub(crate) fn recording() -> Self {
        let records = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&records);
        Origin::start(records, move |connection| {
            record(connection, &shared, &|_| None)
        })
    }

    /// A host that records its requests, sends the planned responses, and otherwise responds with the target.
    pub(crate) fn planned(plan: impl Fn(&Record) -> Option<Plan> + Send + Sync + 'static) -> Self {
        let records = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&records);
        Origin::start(records, move |connection| {
            record(connection, &shared, &plan)
        })
    }

    /// A host that responds to `/r/ID` with the raw bytes of that case, and to other requests with a valid response.
    pub(crate) fn responding(cases: &[Case]) -> Self {
        let cases: HashMap<String, Case> = cases
            .iter()
            .map(|case| (format!("/r/{}", case.id), case.clone()))
            .collect();
        Origin::start(Arc::default(), move |connection| {
            respond(connection, &cases)
        })
    }

    fn start(
        records: Arc<Mutex<Vec<Record>>>,
        serve: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        // Another process may take a port between its choice and its use.
        let bind = || TcpListener::bind(free()).ok();
        let listener = (0..5).find_map(|_| bind()).expect("a free port");
        let address = listener.local_addr().expect("the socket is bound");
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let serve: Arc<Serve> = Arc::new(serve);
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || {
                    let _ = socket.set_nodelay(true);
                    let unread = Vec::new();
                    // Any error ends the connection; everything before it is recorded.
                    let _ = serve(&mut Connection { socket, unread });
                });
            }
        });
        Origin {
            address,
            stopping,
            records,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests since the last call.
    pub(crate) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut *self.records.lock().expect("the lock is not poisoned"))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

struct Connection {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    /// Reads until `end` finds something, and removes it together with the bytes before it. If `end` finds nothing in
    /// time, the bytes that have arrived stay in the buffer.
    fn read_until(&mut self, end: &[u8], patience: Option<Duration>) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = wire::find(&self.unread, end) {
                let taken = self.unread[..at].to_vec();
                self.unread.drain(..at + end.len());
                return Ok(taken);
            }
            self.fill(patience)?;
        }
    }

    fn read_exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < count {
            self.fill(Some(PATIENCE))?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    fn fill(&mut self, patience: Option<Duration>) -> io::Result<()> {
        // A connection without a request may stay idle; an unfinished head may not.
        let patience = patience.filter(|_| !self.unread.is_empty() || patience == Some(PATIENCE));
        self.socket.set_read_timeout(patience)?;
        let mut bytes = [0; 64 * 1024];
        match self.socket.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.unread.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }

    fn send_plan(&mut self, plan: &Plan) -> io::Result<()> {
        plan.pieces
            .iter()
            .try_for_each(|piece| self.socket.write_all(piece))
    }

    fn echo(&mut self, target: &[u8], to_head: bool) -> io::Result<()> {
        let body = [b"T=", &target[..target.len().min(200)]].concat();
        let length = body.len();
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        if !to_head {
            bytes.extend_from_slice(&body);
        }
        self.socket.write_all(&bytes)
    }
}

fn record(
    connection: &mut Connection,
    records: &Mutex<Vec<Record>>,
    plan: &Planned,
) -> io::Result<()> {
    const BAD: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    loop {
        let head = match connection.read_until(b"\r\n\r\n", Some(PARTIAL)) {
            Err(error) if wire::is_timeout(&error) => {
                let head = std::mem::take(&mut connection.unread);
                let mut faults = wire::lint(head.trim_ascii_end(), true).0;
                faults.push("unterminated-head");
                add_record(
                    records,
                    Record {
                        head,
                        faults,
                        ..Record::default()
                    },
                );
                return connection.socket.write_all(BAD);
            }
            head => head?,
        };
        let (faults, fields) = wire::lint(&head, true);
        let bad = faults.contains(&"request-line") || faults.contains(&"bad-cl");
        let mut seen = Record {
            head: head.clone(),
            fields: fields.clone(),
            faults,
            ..Record::default()
        };
        let number = add_record(records, seen.clone());
        if bad {
            return connection.socket.write_all(BAD);
        }
        let plan = plan(&seen);
        let early = plan.as_ref().filter(|plan| plan.early);
        if let Some(plan) = early {
            connection.send_plan(plan)?;
        }
        let first = |name: &[u8]| fields.get(name).and_then(|values| values.first());
        let continues = early.is_none();
        if continues
            && first(b"expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
        {
            connection
                .socket
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let read = if first(b"transfer-encoding").is_some() {
            read_chunks(connection, &mut seen)
        } else if let Some(length) = first(b"content-length") {
            let length = str::from_utf8(length)
                .ok()
                .and_then(|text| text.parse().ok());
            let length = length.ok_or(io::ErrorKind::InvalidData)?;
            connection.read_exactly(length).map(|body| seen.body = body)
        } else {
            Ok(())
        };
        seen.complete = read.is_ok();
        if let Some(record) = records
            .lock()
            .expect("the lock is not poisoned")
            .get_mut(number)
            .filter(|record| record.head == seen.head)
        {
            *record = seen;
        }
        read?;
        if let Some(plan) = &plan {
            if !plan.early {
                connection.send_plan(plan)?;
            }
            if plan.close {
                return Ok(());
            }
            continue;
        }
        let line = wire::split(&head, b"\r\n").next().unwrap_or_default();
        let (method, target) = wire::request_line(line).unwrap_or_default();
        connection.echo(target, method == b"HEAD")?;
    }
}

/// The position of the record among those since the last call.
fn add_record(records: &Mutex<Vec<Record>>, record: Record) -> usize {
    let mut records = records.lock().expect("the lock is not poisoned");
    records.push(record);
    records.len() - 1
}

fn read_chunks(connection: &mut Connection, seen: &mut Record) -> io::Result<()> {
    loop {
        let line = connection.read_until(b"\r\n", Some(PATIENCE))?;
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let size = str::from_utf8(size)
            .ok()
            .filter(|text| !text.starts_with('+'));
        let size = size.and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size else {
            seen.faults.push("chunk-line");
            return Err(io::ErrorKind::InvalidData.into());
        };
        if size == 0 {
            break;
        }
        seen.body.extend(connection.read_exactly(size)?);
        if connection.read_exactly(2)? != b"\r\n" {
            seen.faults.push("chunk-end");
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    loop {
        let line = connection.read_until(b"\r\n", Some(PATIENCE))?;
        if line.is_empty() {
            return Ok(());
        }
        if wire::field_line(&line).is_none() {
            seen.faults.push("trailer");
        }
        seen.trailers.push(line);
    }
}

fn respond(connection: &mut Connection, cases: &HashMap<String, Case>) -> io::Result<()> {
    loop {
        let head = connection.read_until(b"\r\n\r\n", None)?;
        let line = wire::split(&head, b"\r\n").next().unwrap_or_default();
        let (method, target) = wire::request_line(line).ok_or(io::ErrorKind::InvalidData)?;
        let Some(case) = str::from_utf8(target)
            .ok()
            .and_then(|target| cases.get(target))
        else {
            connection.echo(target, method == b"HEAD")?;
            continue;
        };
        connection.socket.write_all(&case.raw())?;
        match case.end.as_str() {
            "close" => return Ok(()),
            "rst" => return SockRef::from(&connection.socket).set_linger(Some(Duration::ZERO)),
            _ if case.expect == "ok" => {}
            _ => {
                // The proxy closes a connection that it cannot reuse.
                let _ = connection.socket.set_read_timeout(Some(PARTIAL));
                let _ = connection.socket.read(&mut [0; 1]);
                return Ok(());
            }
        }
    }
}
