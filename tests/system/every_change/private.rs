//! A client that dies in a private run: its privacy ledger never says less than what left.

use tests::Death;

use super::{Trial, comes_to_the_same_adapter, stride};
use crate::crash::NAMES;
use crate::private::{allow, spent_in, steps};

const PRIVATE: Trial = Trial {
    names: &NAMES,
    settings: &[
        "cohort.participants=[\"hospital-a\", \"bank-b\"]",
        "cohort.join_deadline=20s",
        "run.rounds=2",
        "training.local_steps=6",
        "privacy.enabled=true",
        "privacy.noise_multiplier=2.0",
        "privacy.epsilon_max=1000.0",
    ],
    // Noise is drawn anew by whoever trains a round again.
    adapter: |_| Vec::new(),
};
const STEPS_PER_ROUND: u64 = 6;

/// One run of which a client dies. When it has, its privacy ledger counts the steps behind every update that the server has from it.
fn client_dies(death: &Death) -> (Vec<u8>, bool) {
    let federation = PRIVATE.federation();
    for name in NAMES {
        allow(&federation, name);
    }
    let ledger = format!("{}.jsonl.privacy", NAMES[1]);
    PRIVATE.client_dies_in(&federation, death, |rounds| {
        let Some(&round) = rounds.last() else {
            return;
        };
        let (_, entries) = spent_in(&federation, &ledger);
        let counted = steps(&entries);
        assert!(
            STEPS_PER_ROUND * u64::from(round) <= counted,
            "{counted} steps, and an update of round {round} left"
        );
    })
}

#[test]
fn the_privacy_ledger_of_a_client_that_dies_before_any_change_counts_whatever_left() {
    comes_to_the_same_adapter("/bank-b", stride(12), &[], client_dies);
}
