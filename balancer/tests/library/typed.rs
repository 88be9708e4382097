//! Algorithms with typed options, and their texts.

use ballast_balancer::bounded::Bounded;
use ballast_balancer::consistent_hash::ConsistentHash;
use ballast_balancer::ip_hash::IpHash;
use ballast_balancer::p2c::{Load, P2c};
use ballast_balancer::random::Random;
use ballast_balancer::{ALGORITHMS, Algorithm, Balancer, BalancerError, Fallback, Options};

use super::hosts;

fn parsed(text: &str) -> Result<Algorithm, BalancerError> {
    text.parse()
}

#[test]
fn a_text_says_the_same_as_a_type() {
    let mut bounded = Bounded::default();
    bounded.factor = 1.5;
    bounded.fallback = Fallback::new(Random::default()).expect("it hashes nothing");
    let text = "bounded(factor=1.5, fallback=random)";
    assert_eq!(parsed(text), Ok(Algorithm::from(bounded)));
    let mut p2c = P2c::default();
    p2c.load = Load::PeakEwma;
    assert_eq!(parsed(" p2c ( load = peak_ewma ) "), Ok(p2c.into()));
    assert_eq!(parsed("ip-hash()"), Ok(IpHash::default().into()));
    for info in ALGORITHMS {
        assert_eq!(parsed(info.name), Ok(info.algorithm()));
        assert_eq!(info.algorithm().info().name, info.name);
    }
}

#[test]
fn wrong_texts_are_errors() {
    for text in [
        "",
        "p2c(",
        "p2c)",
        "p2c(load)",
        "bounded(factor=)",
        "random(seed=1)",
        "p2c,random",
    ] {
        assert!(parsed(text).is_err(), "{text}");
    }
    let hashing = Fallback::new(ConsistentHash::default());
    assert!(
        matches!(hashing, Err(BalancerError::InvalidOption { .. })),
        "{hashing:?}"
    );
}

#[test]
fn wrong_values_of_fields_are_errors_of_the_balancer() {
    for factor in [0.5, f64::NAN, f64::INFINITY, 101.0] {
        let mut bounded = Bounded::default();
        bounded.factor = factor;
        let balancer = Balancer::new(bounded, hosts(2), &Options::new());
        let error = balancer.expect_err("no such factor");
        assert!(
            matches!(error, BalancerError::InvalidOption { .. }),
            "{error}"
        );
    }
    for (v4, v6) in [(0, 64), (33, 64), (32, 0), (32, 129)] {
        let mut ip_hash = IpHash::default();
        (ip_hash.prefix_v4, ip_hash.prefix_v6) = (v4, v6);
        let balancer = Balancer::new(ip_hash, hosts(2), &Options::new());
        let error = balancer.expect_err("no such prefix");
        assert!(
            matches!(error, BalancerError::InvalidOption { .. }),
            "{error}"
        );
    }
}
