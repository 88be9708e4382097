//! What compression costs: CPU for a response of 16 KiB and per MiB of a large one, for an event of a stream, and memory
//! of an open response; and how much smaller responses become.
//!
//! The text is the first MiB of this crate's own sources, which compress as scripts and pages do. `noise` cannot be
//! compressed.
//!
//! `cargo bench --bench compression`; `BALLAST_TABLE=1` prints the table of docs/compression.md instead.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ballast::config::ContentCoding;
use ballast::proxy::compression::Compressor;
use criterion::{BenchmarkId, Criterion, Throughput};

const CODINGS: [ContentCoding; 3] = [
    ContentCoding::Zstd,
    ContentCoding::Brotli,
    ContentCoding::Gzip,
];

const MIB: usize = 1 << 20;

/// Bytes of a small response.
const SMALL: usize = 16 << 10;

/// What the engine compresses at once.
const PIECE: usize = 64 << 10;

/// An event of a stream.
const EVENT: &[u8] =
    b"event: price\ndata: {\"id\":4711,\"bid\":101.25,\"ask\":101.5,\"at\":\"12:00:01.250\"}\n\n";

fn sources(folder: &Path, text: &mut Vec<u8>) {
    let entries = fs::read_dir(folder).expect("the sources are there");
    let mut paths = Vec::from_iter(entries.map(|entry| entry.expect("an entry").path()));
    paths.sort();
    for path in paths {
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.extend(fs::read(&path).expect("a source"));
        }
    }
}

fn text() -> Vec<u8> {
    let mut text = Vec::new();
    sources(
        &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut text,
    );
    text.truncate(MIB);
    text
}

fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    });
    Vec::from_iter(words.flatten().take(MIB))
}

/// Compresses a body as the engine does, and returns the size.
fn compress(coding: ContentCoding, body: &[u8], length: Option<u64>) -> usize {
    let mut compressor = Compressor::new(coding, length).expect("an encoder");
    let (mut out, mut size) = (Vec::new(), 0);
    for piece in body.chunks(PIECE) {
        compressor.write(piece, &mut out).expect("compressed");
        size += out.len();
        out.clear();
    }
    compressor.finish(&mut out).expect("finished");
    size + black_box(out).len()
}

fn of_length(body: &[u8]) -> Option<u64> {
    Some(body.len() as u64)
}

/// An encoder that has sent so many events that its window has filled.
fn open_stream(coding: ContentCoding) -> impl FnMut() -> usize {
    let mut compressor = Compressor::new(coding, None).expect("an encoder");
    let mut out = Vec::new();
    move || {
        out.clear();
        compressor.write(EVENT, &mut out).expect("compressed");
        compressor.flush(&mut out).expect("flushed");
        out.len()
    }
}

fn criterion_runs(criterion: &mut Criterion, text: &[u8], noise: &[u8]) {
    let small = &text[MIB / 2..][..SMALL];
    for (name, body) in [("16KiB", small), ("1MiB", text), ("noise", noise)] {
        let mut group = criterion.benchmark_group(format!("compression/{name}"));
        group
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1))
            .throughput(Throughput::Bytes(body.len() as u64));
        for coding in CODINGS {
            group.bench_function(BenchmarkId::from_parameter(coding.name()), |bencher| {
                bencher.iter(|| compress(coding, black_box(body), of_length(body)));
            });
        }
    }
    let mut group = criterion.benchmark_group("compression/event");
    group
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    for coding in CODINGS {
        let mut step = open_stream(coding);
        group.bench_function(BenchmarkId::from_parameter(coding.name()), |bencher| {
            bencher.iter(&mut step);
        });
    }
}

/// Microseconds of a step: the quickest of some rounds, since the others measure what else runs on the machine.
fn quickest(rounds: usize, mut step: impl FnMut()) -> f64 {
    let times = (0..rounds).map(|_| {
        let start = Instant::now();
        step();
        start.elapsed().as_nanos() as f64 / 1e3
    });
    times.fold(f64::MAX, f64::min)
}

/// Microseconds of the piece of the body that takes longest: the quickest of some rounds.
fn slowest_piece(coding: ContentCoding, body: &[u8]) -> f64 {
    const ROUNDS: usize = 15;
    let rounds = (0..ROUNDS).map(|_| {
        let mut compressor = Compressor::new(coding, None).expect("an encoder");
        let mut out = Vec::new();
        let times = body.chunks(PIECE).map(|piece| {
            out.clear();
            let start = Instant::now();
            compressor.write(piece, &mut out).expect("compressed");
            compressor.flush(&mut out).expect("flushed");
            start.elapsed().as_nanos() as f64 / 1e3
        });
        times.fold(0.0, f64::max)
    });
    rounds.fold(f64::MAX, f64::min)
}

/// Bytes of memory that are resident.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.expect("a size") << 10
}

/// The name of a coding and the number of bytes of a body, whose memory this process is to measure.
const MEASURE_MEMORY: &str = "BALLAST_MEASURE_MEMORY";

/// KiB of memory that an open response takes once `length` bytes have been written: measured in a process of its own,
/// which has no free memory to reuse.
fn memory(coding: ContentCoding, length: usize) -> String {
    let executable = std::env::current_exe().expect("this program");
    let what = format!("{} {length}", coding.name());
    let output = Command::new(executable).env(MEASURE_MEMORY, what).output();
    let text = output.expect("it runs").stdout;
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// What [`memory`] asks for.
fn measure_memory(what: &str, text: &[u8]) {
    let (name, length) = what.split_once(' ').expect("two words");
    let mut codings = CODINGS.into_iter();
    let coding = codings.find(|coding| coding.name() == name);
    let body = &text[..length.parse().expect("a number")];
    let announced = (body.len() <= SMALL).then_some(body.len() as u64);
    println!(
        "{}",
        resident_per_open(coding.expect("a coding"), body, announced)
    );
}

fn resident_per_open(coding: ContentCoding, body: &[u8], length: Option<u64>) -> usize {
    const OPEN: usize = 128;
    let mut out = Vec::with_capacity(2 * PIECE);
    let before = resident();
    let open = (0..OPEN).map(|_| {
        let mut compressor = Compressor::new(coding, length).expect("an encoder");
        for piece in body.chunks(PIECE) {
            out.clear();
            compressor.write(piece, &mut out).expect("compressed");
        }
        // Some encoders begin only when they must.
        compressor.flush(&mut out).expect("flushed");
        compressor
    });
    let open = Vec::from_iter(open);
    let taken = resident().saturating_sub(before) / OPEN / 1024;
    drop(open);
    taken
}

fn table(text: &[u8], noise: &[u8]) {
    let small = &text[MIB / 2..][..SMALL];
    println!(
        "| | 16 KiB, µs | of its size | 1 MiB, µs | of its size | slowest piece of 64 KiB, µs | an event, µs | \
         memory of 16 KiB, KiB | of a long response, KiB |"
    );
    println!("|---|{}", "---|".repeat(8));
    for coding in CODINGS {
        let share = |body: &[u8]| {
            let size = compress(coding, body, of_length(body));
            format!("{:.1} %", 100.0 * size as f64 / body.len() as f64)
        };
        let time = |rounds, body: &[u8]| {
            quickest(rounds, || {
                black_box(compress(coding, body, of_length(body)));
            })
        };
        let mut event = open_stream(coding);
        let events = quickest(51, || {
            for _ in 0..1_000 {
                black_box(event());
            }
        });
        let slowest = slowest_piece(coding, text).max(slowest_piece(coding, noise));
        println!(
            "| `{}` | {:.0} | {} | {:.0} | {} | {slowest:.0} | {:.1} | {} | {} |",
            coding.name(),
            time(501, small),
            share(small),
            time(31, text),
            share(text),
            events / 1e3,
            memory(coding, SMALL),
            memory(coding, MIB),
        );
    }
}

fn main() {
    let (text, noise) = (text(), noise());
    if let Ok(what) = std::env::var(MEASURE_MEMORY) {
        return measure_memory(&what, &text);
    }
    if std::env::var_os("BALLAST_TABLE").is_some() {
        return table(&text, &noise);
    }
    let mut criterion = Criterion::default().configure_from_args();
    criterion_runs(&mut criterion, &text, &noise);
    criterion.final_summary();
}
