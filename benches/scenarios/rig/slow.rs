//! Slow clients: each has its own connection and sends the head of a request that never ends.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The interval between two bytes of a client.
const BETWEEN_BYTES: Duration = Duration::from_secs(2);

/// Running slow clients. They disconnect when dropped.
pub(crate) struct SlowClients {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SlowClients {
    /// Connects `count` of them to `target`. A client that is disconnected connects again.
    pub(crate) fn start(target: SocketAddr, count: usize) -> Self {
        let mut clients: Vec<TcpStream> = (0..count).map(|_| connect(target)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let begin = Instant::now();
            // Connected one after the other, so that their load is even.
            let pause = BETWEEN_BYTES / count.max(1) as u32;
            for turn in 0_u32.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let number = turn as usize % count;
                match clients[number].write(b"x") {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => {
                        clients[number] = connect(target);
                    }
                    _ => {}
                }
                thread::sleep((pause * turn).saturating_sub(begin.elapsed()));
            }
        });
        SlowClients {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for SlowClients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The output already contains its panic.
            let _ = thread.join();
        }
    }
}

fn connect(target: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(target).expect("the listener accepts connections");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: test\r\nX: ")
        .expect("a fresh connection takes some bytes");
    stream.set_nonblocking(true).expect("the socket is open");
    stream
}
