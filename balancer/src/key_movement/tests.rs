use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

/// Keys of each measurement; four standard errors of their share.
const SAMPLES: u32 = 2_000;
const TOLERANCE: f64 = 4.0 * 0.5 / 44.7;

type Server = (String, HostAddress, u32);

fn server(number: u8, weight: u32) -> Server {
    let address = HostAddress::from(([10, 0, 0, number], 80));
    (address.to_string(), address, weight)
}

/// The share of the keys that move, and the minimum.
fn movement(before: (&str, &[Server]), after: (&str, &[Server])) -> (f64, f64) {
    let algorithms = [before.0, after.0].map(|name| name.parse::<Algorithm>().expect("known"));
    let [old, new] = [before.1, after.1].map(|servers| {
        let hosts = servers.iter();
        Vec::from_iter(hosts.map(|(id, address, weight)| (id.as_str(), address.clone(), *weight)))
    });
    let mapping = |algorithm, hosts| KeyMapping { algorithm, hosts };
    let both = (mapping(&algorithms[0], &old), mapping(&algorithms[1], &new));
    let mut movement = KeyMovement::new(both.0, both.1).expect("valid hosts");
    for number in 0..SAMPLES {
        let key = format!("key {number}");
        let client = IpAddr::from(Ipv4Addr::from(number.wrapping_mul(2_654_435_761)));
        let selection = Selection::new().key(key.as_bytes()).client(client);
        movement.sample(&selection, &selection).expect("a host");
    }
    assert_eq!(movement.sampled(), u64::from(SAMPLES));
    (movement.moved(), movement.minimum())
}

const HASHING: [&str; 4] = ["consistent_hash", "bounded", "maglev", "ip_hash"];

#[test]
fn only_the_algorithms_that_hash_say_so() {
    let hashing = crate::ALGORITHMS.iter().filter(|info| info.hashes());
    assert_eq!(Vec::from_iter(hashing.map(|info| info.name)), HASHING);
}

#[test]
fn the_tenth_host_moves_a_tenth_of_the_keys() {
    let servers = Vec::from_iter((1..=10).map(|number| server(number, 1)));
    let moved = HASHING.map(|algorithm| {
        let (moved, minimum) = movement((algorithm, &servers[..9]), (algorithm, &servers));
        assert!((minimum - 0.1).abs() < 1e-9, "{minimum}");
        assert!((moved - 0.1).abs() < 0.03, "{algorithm}: {moved}");
        let (back, _) = movement((algorithm, &servers), (algorithm, &servers[..9]));
        assert_eq!(
            moved, back,
            "the keys of the host alone, in both directions"
        );
        moved
    });
    assert_eq!(moved[0], moved[1], "without load both are the same ring");
}

#[test]
fn a_server_is_its_address() {
    let before = [server(1, 1), server(2, 1), server(3, 1)];
    let mut moved_away = before.clone();
    moved_away[0].1 = HostAddress::from(([10, 0, 0, 9], 80));
    for algorithm in HASHING {
        let (moved, minimum) = movement((algorithm, &before), (algorithm, &moved_away));
        assert!((minimum - 1.0 / 3.0).abs() < 1e-9, "{minimum}");
        assert!((moved - minimum).abs() < 0.1, "{algorithm}: {moved}");
    }
    // Another spelling of the only host gives it the same keys.
    let spelled = [("one:80".to_owned(), before[0].1.clone(), 1)];
    assert_eq!(
        movement(("ip_hash", &before[..1]), ("ip_hash", &spelled)),
        (0.0, 0.0)
    );
}

#[test]
fn another_algorithm_moves_all_keys_but_those_that_meet_by_chance() {
    let servers = Vec::from_iter((1..=5).map(|number| server(number, 1)));
    let (moved, minimum) = movement(("consistent_hash", &servers), ("ip_hash", &servers));
    assert_eq!(minimum, 0.0);
    assert!((moved - 0.8).abs() < TOLERANCE, "{moved}");
}

#[test]
fn without_a_host_there_is_no_share() {
    let hosts = [("a:80", HostAddress::from(([10, 0, 0, 1], 80)), 0)];
    let algorithm = "ip_hash".parse().expect("known");
    let mapping = KeyMapping {
        algorithm: &algorithm,
        hosts: &hosts,
    };
    let mut movement = KeyMovement::new(mapping, mapping).expect("valid hosts");
    let selection = Selection::new().key(b"a");
    assert_eq!(
        movement.sample(&selection, &selection),
        Err(BalancerError::NoHosts)
    );
    assert_eq!((movement.moved(), movement.minimum()), (0.0, 0.0));
}

/// Up to eight servers, each with a weight before and after; 0: it is absent.
fn weights() -> impl Strategy<Value = Vec<(u32, u32)>> {
    let some = |weights: &Vec<(u32, u32)>| {
        weights.iter().any(|weight| weight.0 > 0) && weights.iter().any(|weight| weight.1 > 0)
    };
    prop::collection::vec((0u32..5, 0u32..5), 1..9).prop_filter("a host on each side", some)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20,
        rng_seed: proptest::test_runner::RngSeed::Fixed(17),
        ..ProptestConfig::default()
    })]

    #[test]
    fn as_many_keys_move_as_must_and_none_without_a_change(weights in weights()) {
        let servers = |side: fn(&(u32, u32)) -> u32| {
            let servers = weights.iter().zip(1u8..);
            let servers = servers.map(|(weight, number)| server(number, side(weight)));
            Vec::from_iter(servers.filter(|(_, _, weight)| *weight > 0))
        };
        let (before, after) = (servers(|weight| weight.0), servers(|weight| weight.1));
        for algorithm in HASHING {
            let (moved, minimum) = movement((algorithm, &before), (algorithm, &after));
            // The arcs of a ring are uneven, by a standard deviation of 8 % of a host's share.
            let slack = match algorithm {
                "ip_hash" => TOLERANCE,
                _ => TOLERANCE + 0.15,
            };
            prop_assert!(moved + slack >= minimum, "{}: {} of {}", algorithm, moved, minimum);
            // If shares grow and shrink at the same time, rendezvous hashing also trades keys among hosts that stay.
            let edited = weights.iter().filter(|(before, after)| before != after);
            if edited.count() <= 1 {
                prop_assert!(moved <= minimum + slack, "{}: {} of {}", algorithm, moved, minimum);
            }
            if before == after {
                prop_assert_eq!((moved, minimum), (0.0, 0.0));
            }
            let mut shuffled = before.clone();
            shuffled.reverse();
            prop_assert_eq!(movement((algorithm, &before), (algorithm, &shuffled)), (0.0, 0.0));
        }
    }
}
