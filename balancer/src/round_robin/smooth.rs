//! One cycle of smooth weighted round robin.

use std::collections::HashMap;

/// Positions of equal weight. They are picked in order, so only the next one can have the highest value.
struct WeightClass {
    weight: i64,
    positions: Vec<u32>,
    next: usize,
    round: i64,
}

/// One cycle of nginx's smooth weighted round robin.
///
/// After t steps, a host that was picked c times has the value t·w − c·W; the highest is picked, the first among
/// equals. Hosts of equal weight differ only in c, so one candidate of each class is compared: W × (different weights)
/// steps instead of W × n.
pub(super) fn smooth(weights: &[u64]) -> Vec<u32> {
    let total: u64 = weights.iter().sum();
    let mut by_weight: HashMap<u64, WeightClass> = HashMap::new();
    for (position, &weight) in weights.iter().enumerate() {
        let class = by_weight.entry(weight).or_insert_with(|| WeightClass {
            weight: weight as i64,
            positions: Vec::new(),
            next: 0,
            round: 0,
        });
        class.positions.push(position as u32);
    }
    let mut classes: Vec<WeightClass> = by_weight.into_values().collect();
    (1..=total as i64)
        .filter_map(|step| {
            let class = classes.iter_mut().max_by_key(|class| {
                let standing = step * class.weight - class.round * total as i64;
                (standing, std::cmp::Reverse(class.positions[class.next]))
            })?;
            let position = class.positions[class.next];
            class.next += 1;
            if class.next == class.positions.len() {
                class.next = 0;
                class.round += 1;
            }
            Some(position)
        })
        .collect()
}
