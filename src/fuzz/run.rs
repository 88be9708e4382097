//! Runs one fuzz target without an external engine.

use std::fmt;
use std::fs;
use std::panic;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// The time limit for one input, on a busy machine and without optimization; a slower target hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Mutated inputs between two checks of the clock, and in a run without a time limit.
const BATCH: u32 = 256;

/// Mutation does not grow an input beyond this size.
const MAX_INPUT: usize = 1 << 16;

/// Bytes that are special to some parser.
const SPECIAL_BYTES: &[u8] = b"\0\t\n\r \"#%&'*,-./0:;=>?@A[\\]_`a{|}~\x7f\x80\xc3\xff";

/// Runs `target` on the corpus of `name`, then on mutations of it: one batch, or as many as the time allows. The target
/// must return for each input, in time and without a panic. `words` are tokens of the input's language, which random
/// bytes would hardly ever form.
pub(crate) fn run(name: &str, words: &'static [&'static str], target: fn(&[u8])) {
    let corpus = corpus(name);
    let running = Running::default();
    let recorder = running.clone();
    let (finished, finish) = mpsc::channel();
    let worker = thread::spawn(move || {
        // Dropped when the thread ends, even by a panic.
        let _finished: mpsc::Sender<()> = finished;
        let target = |input: &[u8]| {
            recorder.record(input);
            target(input);
        };
        for input in &corpus {
            check(0, 1, &Just(input.clone()), target);
        }
        let edited = edited(corpus, words);
        let end = Instant::now() + time();
        for seed in 0.. {
            check(seed, BATCH, &edited, target);
            if Instant::now() >= end {
                break;
            }
        }
    });
    while finish.recv_timeout(TIMEOUT / 10) == Err(RecvTimeoutError::Timeout) {
        running.assert_in_time();
    }
    if let Err(failure) = worker.join() {
        panic::resume_unwind(failure);
    }
}

/// The files of the corpus, sorted by name.
fn corpus(name: &str) -> Vec<Input> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let folder = folder.join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files = Vec::from_iter(files.map(|file| file.expect("an entry").path()));
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let read = |file| Input(fs::read(file).expect("a file of the corpus"));
    files.iter().map(read).collect()
}

/// `BALLAST_FUZZ_SECONDS`, or a minute with `BALLAST_LONG=1`, or zero for just one batch.
fn time() -> Duration {
    let seconds = std::env::var("BALLAST_FUZZ_SECONDS").map(|seconds| {
        let seconds = seconds.parse();
        seconds.expect("BALLAST_FUZZ_SECONDS is a whole number")
    });
    let long = || std::env::var("BALLAST_LONG").is_ok_and(|long| long == "1");
    Duration::from_secs(seconds.unwrap_or_else(|_| if long() { 60 } else { 0 }))
}

/// Runs `target` on `cases` inputs; panics with the smallest failing input found.
fn check(seed: u64, cases: u32, inputs: &impl Strategy<Value = Input>, target: impl Fn(&[u8])) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 10_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let outcome = TestRunner::new_with_rng(config, rng).run(inputs, |Input(input)| {
        target(&input);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, input)) => panic!("{reason}, for the input\n{input:?}"),
        Err(abort) => panic!("{abort}"),
    }
}

/// Inputs of the corpus, or empty ones, after a few mutations.
fn edited(corpus: Vec<Input>, words: &'static [&'static str]) -> impl Strategy<Value = Input> {
    let other = select(corpus.clone());
    let special = select(SPECIAL_BYTES).prop_map(|byte| vec![byte]);
    let word = select([words, &[" ", "\n"]].concat()).prop_map(|word| word.as_bytes().to_vec());
    let piece = (other, any::<Index>(), 0..40_usize).prop_map(|(Input(other), at, length)| {
        let at = at.index(other.len() + 1);
        other[at..other.len().min(at + length)].to_vec()
    });
    let inserted = prop_oneof![
        4 => word,
        4 => special,
        2 => piece,
        1 => vec(any::<u8>(), 1..4),
    ];
    let edit = prop_oneof![
        4 => inserted.clone().prop_map(|bytes| Edit { removed: 0, inserted: bytes, times: 1 }),
        4 => (1..4_usize, inserted.clone())
            .prop_map(|(removed, inserted)| Edit { removed, inserted, times: 1 }),
        3 => (1..40_usize).prop_map(|removed| Edit { removed, inserted: Vec::new(), times: 1 }),
        1 => (0..2_usize, inserted, 2..300_usize)
            .prop_map(|(removed, inserted, times)| Edit { removed, inserted, times }),
    ];
    let start = prop_oneof![9 => select(corpus), 1 => Just(Input(Vec::new()))];
    (start, vec((any::<Index>(), edit), 1..8)).prop_map(|(Input(mut input), edits)| {
        for (at, edit) in edits {
            edit.apply(at.index(input.len() + 1), &mut input);
        }
        Input(input)
    })
}

/// Replaces bytes by others, repeated.
#[derive(Debug, Clone)]
struct Edit {
    removed: usize,
    inserted: Vec<u8>,
    times: usize,
}

impl Edit {
    fn apply(&self, at: usize, input: &mut Vec<u8>) {
        let end = input.len().min(at + self.removed);
        input.splice(at..end, self.inserted.repeat(self.times));
        input.truncate(MAX_INPUT);
    }
}

/// Shown in the form of a byte string.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// The input that the target is running on.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<Option<Begun>>>);

struct Begun {
    at: Instant,
    input: Vec<u8>,
}

impl Running {
    fn record(&self, input: &[u8]) {
        *self.now() = Some(Begun {
            at: Instant::now(),
            input: input.to_owned(),
        });
    }

    fn assert_in_time(&self) {
        if let Some(Begun { at, input }) = &*self.now()
            && at.elapsed() > TIMEOUT
        {
            let escaped = input.escape_ascii();
            panic!("longer than {TIMEOUT:?} for the input\nb\"{escaped}\"");
        }
    }

    fn now(&self) -> MutexGuard<'_, Option<Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
