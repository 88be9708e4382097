//! Simulated hosts: each serves a few requests at a time for exponentially distributed times, and the rest wait in a
//! queue, first in, first out.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::timer::sleep_until;
use crate::support::{SOON, free, hold, wait_until};

/// The mean service time of a sound host.
const SERVICE: Duration = Duration::from_millis(10);

/// Requests that a host serves at a time.
const SLOTS: usize = 8;

/// How a host behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    Normal,
    /// Every service takes this many times as long.
    Slow(f64),
    /// Every request gets a 500 after a millisecond.
    Failing,
    /// No response leaves the host within `pause` from the start of each `period`, the first of which starts at `from`.
    Stalling {
        from: Instant,
        period: Duration,
        pause: Duration,
    },
}

/// Hosts on loopback, served by one thread. They stop when dropped.
pub(crate) struct Hosts {
    hosts: Vec<Arc<Host>>,
    up: Vec<watch::Sender<bool>>,
    /// Dropped to stop the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Host {
    name: String,
    address: SocketAddr,
    mode: Mutex<Mode>,
    random: Mutex<SmallRng>,
    slots: Semaphore,
    requests: AtomicU64,
    listens: AtomicBool,
}

impl Hosts {
    /// Starts `count` sound hosts, `h0` and so on. Their service times follow from `seed`.
    pub(crate) fn start(count: usize, seed: u64) -> Self {
        let host = |number: usize| {
            Arc::new(Host {
                name: format!("h{number}"),
                address: free(),
                mode: Mutex::new(Mode::Normal),
                random: Mutex::new(SmallRng::seed_from_u64(seed + number as u64)),
                slots: Semaphore::new(SLOTS),
                requests: AtomicU64::new(0),
                listens: AtomicBool::new(false),
            })
        };
        let hosts: Vec<Arc<Host>> = (0..count).map(host).collect();
        let up: Vec<_> = (0..count).map(|_| watch::Sender::new(true)).collect();
        let (stop, stopped) = oneshot::channel();
        let runs: Vec<_> = hosts
            .iter()
            .cloned()
            .zip(up.iter().map(watch::Sender::subscribe))
            .collect();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for (host, up) in runs {
                    tasks.spawn(run(host, up));
                }
                let _ = stopped.await;
            });
        });
        let hosts = Hosts {
            hosts,
            up,
            stop: Some(stop),
            thread: Some(thread),
        };
        (0..count).for_each(|number| hosts.wait_for(number, true));
        hosts
    }

    pub(crate) fn count(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.hosts.iter().map(|host| host.address)
    }

    /// Changes the behaviour for requests whose service starts from now on.
    pub(crate) fn set(&self, number: usize, mode: Mode) {
        *lock(&self.hosts[number].mode) = mode;
    }

    /// Requests that have arrived at each host so far.
    pub(crate) fn requests(&self) -> Vec<u64> {
        let count = |host: &Arc<Host>| host.requests.load(Ordering::SeqCst);
        self.hosts.iter().map(count).collect()
    }

    /// The host dies: its connections end, and new ones are refused.
    pub(crate) fn kill(&self, number: usize) {
        self.up[number].send_replace(false);
        self.wait_for(number, false);
    }

    /// The host is up again, on the same address.
    pub(crate) fn revive(&self, number: usize) {
        self.up[number].send_replace(true);
        self.wait_for(number, true);
    }

    fn wait_for(&self, number: usize, listens: bool) {
        wait_until(SOON, "a host changes", || {
            self.hosts[number].listens.load(Ordering::SeqCst) == listens
        });
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// The life of a host, from one crash to the next.
async fn run(host: Arc<Host>, mut up: watch::Receiver<bool>) {
    let mut held = hold(host.address);
    loop {
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        held.listen(4096).expect("a bound socket can listen");
        held.set_nonblocking(true).expect("a socket takes options");
        let listener = tokio::net::TcpListener::from_std(TcpListener::from(held))
            .expect("a listener fits the runtime");
        host.listens.store(true, Ordering::SeqCst);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(host.clone(), stream));
                },
                _ = up.wait_for(|up| !*up) => break,
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        connections.shutdown().await;
        held = hold(host.address);
        host.listens.store(false, Ordering::SeqCst);
    }
}

/// Serves one connection until either side ends it.
async fn serve(host: Arc<Host>, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut unread = Vec::new();
    loop {
        // Requests have no bodies here.
        while let Some(end) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            unread.drain(..end + 4);
            host.requests.fetch_add(1, Ordering::SeqCst);
            let status = host.work().await;
            let answer = format!(
                "HTTP/1.1 {status} Simulated\r\nX-Backend: {0}\r\nContent-Length: {1}\r\n\r\n{0}",
                host.name,
                host.name.len(),
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut unread).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

impl Host {
    /// Waits in the queue and serves; returns the status.
    async fn work(&self) -> u16 {
        let _slot = self.slots.acquire().await;
        let mode = *lock(&self.mode);
        // 1 - u is in (0, 1], so its logarithm is finite.
        let drawn: f64 = -(1.0 - lock(&self.random).r#gen::<f64>()).ln();
        let (time, status) = match mode {
            Mode::Normal | Mode::Stalling { .. } => (SERVICE.mul_f64(drawn), 200),
            Mode::Slow(factor) => (SERVICE.mul_f64(drawn * factor), 200),
            Mode::Failing => (Duration::from_millis(1), 500),
        };
        let mut end = Instant::now() + time;
        if let Mode::Stalling {
            from,
            period,
            pause,
        } = mode
        {
            end = after_stall(end, from, period, pause);
        }
        sleep_until(end).await;
        status
    }
}

/// The first moment from `moment` on that is outside every stall.
fn after_stall(moment: Instant, from: Instant, period: Duration, pause: Duration) -> Instant {
    let Some(since) = moment.checked_duration_since(from) else {
        return moment;
    };
    let into = Duration::from_secs_f64(since.as_secs_f64() % period.as_secs_f64());
    moment + pause.saturating_sub(into)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
