//! Malformed files: parsing never panics and ends within a bounded time.

use std::time::{Duration, Instant};

use ballast::config::ConfigErrors;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::try_parse;

const FILES: [&str; 2] = [
    include_str!("../../conf/ballast.yaml"),
    include_str!("../../conf/minimal.yaml"),
];
const MUTATIONS: u64 = 1_000;
/// The bound for one file, on a busy machine and without optimisation. An unbounded expansion would take forever.
const MAX_DURATION: Duration = Duration::from_secs(60);
/// Half of the largest file that is read: a file of the full size would leave no time for a busy machine.
const MAX_LENGTH: usize = 1 << 19;

/// Parses, and formats the errors as well; fails if that takes too long.
fn try_parse_in_time(text: &str) -> Result<(), ConfigErrors> {
    let start = Instant::now();
    let outcome = try_parse(text).map(drop);
    if let Err(errors) = &outcome {
        let messages = errors.to_string();
        assert!(!messages.is_empty());
        assert!(
            !messages.lines().any(|line| !line.starts_with("b.yaml:")),
            "{messages}"
        );
    }
    let elapsed = start.elapsed();
    assert!(elapsed < MAX_DURATION, "{elapsed:?} for:\n{text}");
    outcome
}

#[test]
fn mutated_files_are_read_or_refused() {
    let mut refused = 0;
    for seed in 0..MUTATIONS {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut bytes = FILES[rng.gen_range(0..FILES.len())].as_bytes().to_vec();
        for _ in 0..rng.gen_range(1..=4) {
            mutate(&mut bytes, &mut rng);
        }
        refused += usize::from(try_parse_in_time(&String::from_utf8_lossy(&bytes)).is_err());
    }
    // The mutations are only useful if they reach both outcomes.
    assert!((100..1_000).contains(&refused), "{refused} refused");
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut SmallRng) {
    const SYNTAX_BYTES: &[u8] = b"[]{}:,-#&*!|>'\"%@`?~\t\n\r\0 0.\x80\xff";
    if bytes.is_empty() {
        return;
    }
    let at = rng.gen_range(0..bytes.len());
    let end = (at + rng.gen_range(1..40)).min(bytes.len());
    match rng.gen_range(0..7) {
        0 => bytes[at] ^= 1 << rng.gen_range(0..8),
        1 => bytes[at] = SYNTAX_BYTES[rng.gen_range(0..SYNTAX_BYTES.len())],
        2 => bytes.insert(at, SYNTAX_BYTES[rng.gen_range(0..SYNTAX_BYTES.len())]),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => bytes.truncate(at),
        _ => {
            let mut lines = Vec::from_iter(bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
            let (one, other) = (rng.gen_range(0..lines.len()), rng.gen_range(0..lines.len()));
            lines.swap(one, other);
            *bytes = lines.join(&b'\n');
        }
    }
}

#[test]
fn files_cut_off_anywhere_are_read_or_refused() {
    for file in FILES {
        for (end, _) in file.char_indices() {
            try_parse_in_time(&file[..end]).ok();
        }
        try_parse_in_time(file).expect("the whole file");
    }
}

#[test]
fn unbounded_nesting_is_refused() {
    for unit in ["[", "{", "{a: ", "[?", "- ", "? ", "a: [", "[[],"] {
        try_parse_in_time(&unit.repeat(MAX_LENGTH / unit.len())).expect_err(unit);
    }
    let nested_maps = (0..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth)));
    try_parse_in_time(&nested_maps.collect::<String>()).expect_err("nested maps");
}

#[test]
fn the_expansion_of_aliases_is_bounded() {
    let laughs = (1..50).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1));
    let laughs = format!("a0: &a0 [x, x]\n{}", laughs.collect::<String>());
    try_parse_in_time(&laughs).expect_err("a billion laughs");
    let hosts = "a,".repeat(20_000);
    let pools = (0..20_000).map(|n| format!("  p{n}: {{ hosts: *h }}\n"));
    let many_pools = format!(
        "pools:\n  p: {{ hosts: &h [{hosts}] }}\n{}",
        pools.collect::<String>()
    );
    try_parse_in_time(&many_pools).expect_err("many pools with the same long list");
    try_parse_in_time("pools: &a { web: *a }\n").expect_err("an alias of itself");
}

#[test]
fn an_alias_is_accepted() {
    try_parse_in_time(
        "listeners: [\"127.0.0.1:80\"]\nroutes: [{ path: /a, pool: a }, { pool: b }]\npools:\n  \
         a: { hosts: [\"127.0.0.1:1\"], health_check: &check { interval: 5s } }\n  \
         b: { hosts: [\"127.0.0.1:2\"], health_check: *check }\n",
    )
    .expect("an alias is fine");
}
