//! An open-loop load: requests are due at random moments that do not depend on the outcome of earlier ones, and each is
//! timed from the moment at which it was due. All requests that fall into a stall show it, and not only the few that a
//! client which waits for its responses would have sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::timer::sleep_until;

/// GETs to one address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    /// Mean number of requests per second; the intervals are exponentially distributed.
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
    /// Source addresses; each request has a random one.
    pub(crate) clients: u16,
    /// After this a request counts as failed.
    pub(crate) patience: Duration,
    pub(crate) seed: u64,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// When it was due, measured from the start.
    due: Duration,
    /// The time from then to the end of its response.
    latency: Duration,
    /// `None`: no complete response.
    status: Option<u16>,
}

/// The outcome of all requests.
#[derive(Debug, Default)]
pub(crate) struct Record(Vec<Sample>);

impl Plan {
    /// Sends all requests and waits for their outcome; takes `duration` and `patience` at most.
    pub(crate) fn run(self) -> Record {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        runtime.block_on(self.send_all())
    }

    async fn send_all(self) -> Record {
        let mut random = SmallRng::seed_from_u64(self.seed);
        let clients: Vec<Arc<Client>> = (0..self.clients)
            .map(|number| Arc::new(Client::new(number, self.target)))
            .collect();
        let mut requests = JoinSet::new();
        let start = Instant::now();
        let mut due = Duration::ZERO;
        loop {
            // 1 - u is in (0, 1], so its logarithm is finite.
            due += Duration::from_secs_f64(-(1.0 - random.r#gen::<f64>()).ln() / self.rate);
            if due >= self.duration {
                break;
            }
            let client = clients[random.gen_range(0..clients.len())].clone();
            // Distinct paths, so that a pool that hashes paths spreads the requests.
            let path = format!("/{:016x}", random.r#gen::<u64>());
            sleep_until(start + due).await;
            requests.spawn(async move {
                let answer = tokio::time::timeout(self.patience, client.get(&path)).await;
                Sample {
                    due,
                    latency: start.elapsed().saturating_sub(due),
                    status: answer.ok().flatten(),
                }
            });
        }
        let samples = requests.join_all().await;
        Record(samples)
    }
}

impl Record {
    /// The requests that were due after `time`.
    pub(crate) fn after(mut self, time: Duration) -> Self {
        self.0.retain(|sample| sample.due >= time);
        self
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Requests that did not get a 200.
    pub(crate) fn failed(&self) -> usize {
        let failed = |sample: &&Sample| sample.status != Some(200);
        self.0.iter().filter(failed).count()
    }

    /// The share of requests that got a 200.
    pub(crate) fn success(&self) -> f64 {
        1.0 - self.failed() as f64 / self.count().max(1) as f64
    }

    /// The latency that `share` of the requests did not exceed, including failed ones.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        let mut latencies: Vec<Duration> = self.0.iter().map(|sample| sample.latency).collect();
        latencies.sort_unstable();
        let rank = (share * latencies.len() as f64).ceil() as usize;
        let found = latencies.get(rank.saturating_sub(1));
        found.copied().unwrap_or_default()
    }
}

/// A source address with its idle connections.
struct Client {
    source: Ipv4Addr,
    target: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Client {
    fn new(number: u16, target: SocketAddr) -> Self {
        const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 1]);
        Client {
            source: Ipv4Addr::from(FIRST + u32::from(number)),
            target,
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status of a complete response.
    async fn get(&self, path: &str) -> Option<u16> {
        let idle = self.idle().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => {
                let socket = TcpSocket::new_v4().ok()?;
                socket.bind(SocketAddr::from((self.source, 0))).ok()?;
                let stream = socket.connect(self.target).await.ok()?;
                stream.set_nodelay(true).ok()?;
                stream
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let (status, keep) = read_answer(&mut stream).await?;
        if keep {
            self.idle().push(stream);
        }
        Some(status)
    }
}

/// The status of a complete response and whether another request may follow; `None` if it is cut off or malformed.
async fn read_answer(stream: &mut TcpStream) -> Option<(u16, bool)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(field, _)| *field == name);
        values.next().map(|(_, value)| value.trim())
    };
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length: usize = field("content-length")?.parse().ok()?;
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((status, field("connection") != Some("close")))
}
