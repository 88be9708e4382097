//! Which cache has a key, and how many keys move when one is added: `cargo run --example cache`.

use std::error::Error;

use ballast_balancer::bounded::Bounded;
use ballast_balancer::{Algorithm, HostAddress, KeyMapping, KeyMovement, Selection};

fn main() -> Result<(), Box<dyn Error>> {
    let mut bounded = Bounded::default();
    bounded.factor = 1.1;
    let algorithm = Algorithm::from(bounded);
    let names = Vec::from_iter((1..=11).map(|i| format!("10.0.0.{i}:11211")));
    let hosts = names
        .iter()
        .map(|name| Ok((name.as_str(), name.parse::<HostAddress>()?, 1)));
    let hosts = hosts.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let mapping = |hosts| KeyMapping {
        algorithm: &algorithm,
        hosts,
    };
    let mut movement = KeyMovement::new(mapping(&hosts[..10]), mapping(&hosts))?;
    for number in 0..10_000 {
        let key = format!("user:{number}");
        let request = Selection::new().key(key.as_bytes());
        movement.sample(&request, &request)?;
    }
    println!("{:.1} % of the keys move", movement.moved() * 100.0);
    println!("{:.1} % must", movement.minimum() * 100.0);
    Ok(())
}
