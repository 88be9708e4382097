//! A run of one target without an engine.

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

/// For one input, on a busy machine and without optimisation; whatever takes longer hangs.
const LONGEST: Duration = Duration::from_secs(10);

/// Edited inputs between two looks at the clock; what a run without a time takes.
const BATCH: u32 = 256;

/// Inputs do not grow beyond it by editing.
const LARGEST: usize = 1 << 16;

/// Bytes that mean something to one reader or another.
const TELLING: &[u8] = b"\0\t\n\r \"#%&'*,-./0:;=>?@A[\\]_`a{|}~\x7f\x80\xc3\xff";

/// Gives `target` the corpus of `name`, then edited inputs of it: a batch, or as many as there is time for. It has to
/// return for each, in time and without a panic. `words` are pieces of the input's language, which random bytes would
/// hardly ever hit.
pub(crate) fn run(name: &str, words: &'static [&'static str], target: fn(&[u8])) {
    let corpus = corpus(name);
    let running = Running::default();
    let noted = running.clone();
    let (finished, finish) = mpsc::channel();
    let worker = thread::spawn(move || {
        // Dropped with the thread, however it ends.
        let _finished: mpsc::Sender<()> = finished;
        let target = |input: &[u8]| {
            noted.note(input);
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
    while finish.recv_timeout(LONGEST / 10) == Err(RecvTimeoutError::Timeout) {
        running.assert_that_it_ends();
    }
    if let Err(failure) = worker.join() {
        panic::resume_unwind(failure);
    }
}

/// The files of the target's folder, in the order of their names.
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

/// `BALLAST_FUZZ_SECONDS`, or a minute under `BALLAST_LONG=1`, or none beyond the first batch.
fn time() -> Duration {
    let seconds = std::env::var("BALLAST_FUZZ_SECONDS").map(|seconds| {
        let seconds = seconds.parse();
        seconds.expect("BALLAST_FUZZ_SECONDS is a whole number")
    });
    let long = || std::env::var("BALLAST_LONG").is_ok_and(|long| long == "1");
    Duration::from_secs(seconds.unwrap_or_else(|_| if long() { 60 } else { 0 }))
}

/// Runs `target` on `cases` inputs; fails with the smallest one found that it fails for.
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

/// Inputs that are an input of the corpus, or nothing, after a few edits.
fn edited(corpus: Vec<Input>, words: &'static [&'static str]) -> impl Strategy<Value = Input> {
    let other = select(corpus.clone());
    let telling = select(TELLING).prop_map(|byte| vec![byte]);
    let word = select([words, &[" ", "\n"]].concat()).prop_map(|word| word.as_bytes().to_vec());
    let piece = (other, any::<Index>(), 0..40_usize).prop_map(|(Input(other), at, length)| {
        let at = at.index(other.len() + 1);
        other[at..other.len().min(at + length)].to_vec()
    });
    let inserted = prop_oneof![
        4 => word,
        4 => telling,
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

/// Bytes given way to others.
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
        input.truncate(LARGEST);
    }
}

/// Shown as it could stand in a byte string.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// The input that is being worked on.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<Option<Begun>>>);

struct Begun {
    at: Instant,
    input: Vec<u8>,
}

impl Running {
    fn note(&self, input: &[u8]) {
        *self.now() = Some(Begun {
            at: Instant::now(),
            input: input.to_owned(),
        });
    }

    fn assert_that_it_ends(&self) {
        if let Some(Begun { at, input }) = &*self.now()
            && at.elapsed() > LONGEST
        {
            let shown = input.escape_ascii();
            panic!("longer than {LONGEST:?} for the input\nb\"{shown}\"");
        }
    }

    fn now(&self) -> MutexGuard<'_, Option<Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
