//! The order in which groups of hosts get requests.

use super::SelectionReason;

/// The groups of a pool's hosts, in order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Tier {
    /// Takes requests.
    Primary,
    /// Takes requests while no primary host does.
    Backup,
    /// Works, but takes requests only as the last resort.
    Draining,
    /// Takes no requests.
    Out,
}

impl Tier {
    /// The tiers that take requests, in order of preference.
    pub(super) const SERVING: [Tier; 3] = [Tier::Primary, Tier::Backup, Tier::Draining];

    /// Why a request goes to a host of this tier.
    pub(super) fn reason(self) -> SelectionReason {
        match self {
            Tier::Primary => SelectionReason::Balanced,
            Tier::Backup => SelectionReason::Backup,
            Tier::Draining => SelectionReason::Draining,
            Tier::Out => SelectionReason::AnyHost,
        }
    }

    /// The name in the admin API.
    pub(super) fn name(self) -> &'static str {
        match self {
            Tier::Primary => "primary",
            Tier::Backup => "backup",
            Tier::Draining => "draining",
            Tier::Out => "out",
        }
    }

    pub(super) fn from_number(number: u8) -> Self {
        let serving = Tier::SERVING.into_iter();
        let mut found = serving.filter(|tier| *tier as u8 == number);
        found.next().unwrap_or(Tier::Out)
    }
}

/// What a host's tier depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TierInputs {
    pub(super) healthy: bool,
    /// Failed requests, and has not passed a probe since.
    pub(super) ejected: bool,
    /// Drained by an operator, or of weight 0.
    pub(super) draining: bool,
    pub(super) backup: bool,
}

/// The tiers of a pool's hosts.
///
/// An ejection is a guess from live traffic and must not leave a pool without hosts: if no other host is left (because
/// checks took the others out since), ejected hosts serve.
pub(super) fn tiers(inputs: &[TierInputs]) -> Vec<Tier> {
    let place = |include_ejected: bool| {
        let tier = move |input: &TierInputs| match *input {
            TierInputs { healthy: false, .. } => Tier::Out,
            TierInputs { ejected: true, .. } if !include_ejected => Tier::Out,
            TierInputs { draining: true, .. } => Tier::Draining,
            TierInputs { backup: true, .. } => Tier::Backup,
            _ => Tier::Primary,
        };
        Vec::from_iter(inputs.iter().map(tier))
    };
    let strict = place(false);
    match strict.iter().all(|tier| *tier == Tier::Out) {
        true => place(true),
        false => strict,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: TierInputs = TierInputs {
        healthy: true,
        ejected: false,
        draining: false,
        backup: false,
    };
    const DEAD: TierInputs = TierInputs {
        healthy: false,
        ..GOOD
    };
    const EJECTED: TierInputs = TierInputs {
        ejected: true,
        ..GOOD
    };
    const BACKUP: TierInputs = TierInputs {
        backup: true,
        ..GOOD
    };
    const DRAINING: TierInputs = TierInputs {
        draining: true,
        ..GOOD
    };

    #[test]
    fn each_host_has_its_tier() {
        assert_eq!(
            tiers(&[GOOD, BACKUP, DRAINING, DEAD, EJECTED]),
            [
                Tier::Primary,
                Tier::Backup,
                Tier::Draining,
                Tier::Out,
                Tier::Out
            ]
        );
    }

    #[test]
    fn ejected_hosts_serve_if_no_other_host_does() {
        assert_eq!(tiers(&[DEAD, EJECTED]), [Tier::Out, Tier::Primary]);
        assert_eq!(tiers(&[DRAINING, EJECTED]), [Tier::Draining, Tier::Out]);
        assert_eq!(tiers(&[DEAD, DEAD]), [Tier::Out, Tier::Out]);
    }

    proptest! {
        #[test]
        fn while_a_host_is_healthy_a_host_serves(flags in prop::collection::vec(any::<(bool, bool, bool, bool)>(), 1..20)) {
            let inputs: Vec<_> = flags
                .into_iter()
                .map(|(healthy, ejected, draining, backup)| TierInputs { healthy, ejected, draining, backup })
                .collect();
            let tiers = tiers(&inputs);
            let serves = tiers.iter().any(|tier| *tier != Tier::Out);
            prop_assert_eq!(serves, inputs.iter().any(|condition| condition.healthy));
            for (tier, condition) in tiers.iter().zip(&inputs) {
                prop_assert!(condition.healthy || *tier == Tier::Out);
                prop_assert_eq!(Tier::from_number(*tier as u8), *tier);
            }
        }
    }
}
