//! Programs that die before a chosen change to their files, each run before a later one, killed or with the power of their machine:
//! it comes to the same adapter, byte for byte.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod full_disk;
mod private;

use tests::{Cause, DISK_IS_FULL, Death, Federation, Finished, Program, assert_success};

use crate::crash::{NAMES, SETTINGS, adapter, restarted, whole, whole_in};
use crate::{PROGRAMS, masked};

/// The runs in which somebody dies. Of every one the second participant is the client that does.
struct Trial {
    names: &'static [&'static str],
    settings: &'static [&'static str],
    adapter: fn(&Federation) -> Vec<u8>,
}

const PLAIN: Trial = Trial {
    names: &NAMES,
    settings: &SETTINGS,
    adapter,
};
const MASKED: Trial = Trial {
    names: &masked::NAMES,
    settings: &masked::MASKED_SETTINGS,
    adapter: |federation| masked::adapter(federation, true),
};

/// Every how many changes there is a death; `FOEDUS_DEATHS=1` has one at each.
fn stride(usual: usize) -> usize {
    std::env::var("FOEDUS_DEATHS").map_or(usual, |stride| {
        stride.parse().expect("FOEDUS_DEATHS is a number")
    })
}

/// What the deaths of a test are by, in turn; `FOEDUS_DEATHS_BY=kill`, `power-cut` or `torn-names` has them all by that.
fn causes() -> impl Iterator<Item = Cause> {
    let asked = std::env::var("FOEDUS_DEATHS_BY").ok();
    let mut causes = Cause::SUDDEN.to_vec();
    causes.retain(|cause| asked.as_ref().is_none_or(|asked| cause.name() == asked));
    assert!(!causes.is_empty(), "FOEDUS_DEATHS_BY is no cause of death");
    causes.into_iter().cycle()
}

/// Whether a program came to the point of its death. One whose disk is full ends with a file's name, unless it had written all.
fn has_died(finished: &Finished, death: &Death) -> bool {
    if death.by != Cause::FullDisk {
        if finished.code.is_some() {
            assert_success(finished);
        }
        return finished.code.is_none();
    }
    if finished.code != Some(0) {
        let last = finished.text.lines().last().unwrap_or_default();
        let below = death.below.trim_start_matches('/');
        let is_named = last.contains("No space left on device") && last.contains(below);
        assert!(finished.code == Some(1) && is_named, "{finished:?}");
    }
    finished.text.contains(DISK_IS_FULL)
}

impl Trial {
    fn federation(&self) -> Federation {
        Federation::create(PROGRAMS, self.names)
    }

    fn start_server(&self, federation: &Federation) -> (Program, String) {
        federation.start_server(self.names.len() as u32, self.settings)
    }

    fn start_clients(&self, federation: &Federation, address: &str) -> Vec<Program> {
        let start = |name: &&str| federation.start_client(name, address);
        self.names.iter().map(start).collect()
    }

    /// One run whose server dies and is started again. Gives its adapter, and whether the server lived to the point of its death.
    fn server_dies(&self, death: &Death) -> (Vec<u8>, bool) {
        self.server_dies_in(&self.federation(), death)
    }

    fn server_dies_in(&self, federation: &Federation, death: &Death) -> (Vec<u8>, bool) {
        let quorum = self.names.len() as u32;
        let (first, address) = federation.start_dying_server(quorum, self.settings, death);
        let Some(address) = address else {
            assert!(has_died(&first.finish(), death));
            let (server, address) = self.start_server(federation);
            end(self.start_clients(federation, &address), server);
            return ((self.adapter)(federation), true);
        };
        let clients = self.start_clients(federation, &address);
        if !has_died(&first.finish(), death) {
            return ((self.adapter)(federation), false);
        }
        let listen = format!("listen={address}");
        let settings = [self.settings, &[listen.as_str()]].concat();
        // None if it died after its last word.
        if let Some(server) = restarted(federation, &settings) {
            end(clients, server);
        }
        ((self.adapter)(federation), true)
    }

    /// One run of which a client dies and is started again.
    fn client_dies(&self, death: &Death) -> (Vec<u8>, bool) {
        self.client_dies_in(&self.federation(), death, |_| ())
    }

    /// The same; `look` is told in which rounds an update of it counts when it has died.
    fn client_dies_in(
        &self,
        federation: &Federation,
        death: &Death,
        look: impl Fn(&[u32]),
    ) -> (Vec<u8>, bool) {
        let (server, address) = self.start_server(federation);
        let [first, victim, rest @ ..] = self.names else {
            panic!("nobody is left to die")
        };
        let others = [first].into_iter().chain(rest);
        let others = others.map(|name| federation.start_client(name, &address));
        let others: Vec<_> = others.collect();
        let dying = federation.start_dying_client(victim, &address, death);
        let has_died = has_died(&dying.finish(), death);
        if has_died {
            let rounds = accepted(&server.said(), victim);
            ledger_covers(federation, victim, &rounds);
            look(&rounds);
        }
        // The server does not wait for one that died with the final adapter in its hands; the others do not either.
        let again = has_died.then(|| federation.start_client(victim, &address));
        end(others, server);
        drop(again);
        ((self.adapter)(federation), has_died)
    }
}

/// Waits for these, all of which come to a good end.
fn end(clients: Vec<Program>, server: Program) {
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
}

/// The rounds in which an update of this participant counts, by the server's log.
fn accepted(said: &str, name: &str) -> Vec<u32> {
    let lines = said.lines().filter(|line| line.contains("update accepted"));
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let own = lines.filter(|line| line["participant"] == name);
    let rounds = own.map(|line| line["round"].as_str().unwrap().parse().unwrap());
    rounds.collect()
}

/// Asserts that the ledger of a client that died just now is whole and names the updates of these rounds, which the server has.
fn ledger_covers(federation: &Federation, name: &str, rounds: &[u32]) {
    let ledger = format!("{name}-adapter.ledger");
    if !federation.file(&ledger).exists() {
        assert_eq!(rounds, [0; 0]);
        return;
    }
    let config = format!("{name}.toml");
    assert_success(&federation.client(&["ledger", "verify", "--config", &config]));
    let entries = federation.json_lines(&ledger);
    for &round in rounds {
        let mut updates = entries.iter().filter(|entry| entry["purpose"] == "update");
        assert!(
            updates.any(|entry| entry["round"] == round),
            "round {round} is not in {entries:?}"
        );
    }
}

/// Has a program die before the first, the next and so on change, until it lives to its end.
fn comes_to_the_same_adapter(
    below: &'static str,
    stride: usize,
    expected: &[u8],
    run: impl Fn(&Death) -> (Vec<u8>, bool),
) {
    comes_to_it_by(causes(), (below, stride), expected, run);
}

/// The same by these causes in turn.
#[expect(
    clippy::print_stdout,
    reason = "a failure is found again by its number"
)]
fn comes_to_it_by(
    causes: impl Iterator<Item = Cause>,
    (below, stride): (&'static str, usize),
    expected: &[u8],
    run: impl Fn(&Death) -> (Vec<u8>, bool),
) {
    for (at, by) in (1..).step_by(stride).zip(causes) {
        let death = Death { at, below, by };
        println!("{death:?}");
        let (found, has_died) = run(&death);
        assert!(found == expected, "another adapter after {death:?}");
        if !has_died {
            assert!(1 < at, "nothing below {below} was ever changed");
            return;
        }
    }
}

#[test]
fn a_server_that_dies_before_any_write_to_its_journal_comes_to_the_same_adapter() {
    comes_to_the_same_adapter("/journal.redb", stride(8), &whole(), |death| {
        PLAIN.server_dies(death)
    });
}

/// Its file is made, with what tells whose it is, in more changes than these.
#[test]
fn a_server_that_dies_while_it_makes_its_journal_comes_to_the_same_adapter() {
    let (expected, below) = (whole(), "/journal.redb");
    for (at, by) in (1..=10).zip(causes()) {
        let death = Death { at, below, by };
        let (found, has_died) = PLAIN.server_dies(&death);
        assert!(has_died, "there is no change {at} below {below}");
        assert!(found == expected, "another adapter after {death:?}");
    }
}

#[test]
fn a_server_that_dies_before_any_change_in_its_folder_comes_to_the_same_adapter() {
    comes_to_the_same_adapter("/runs/", stride(24), &whole(), |death| {
        PLAIN.server_dies(death)
    });
}

/// Those of all participants that wait together are written to one file.
#[test]
fn a_server_that_dies_before_any_change_to_its_small_updates_comes_to_the_same_adapter() {
    comes_to_the_same_adapter("/updates", stride(4), &whole(), |death| {
        PLAIN.server_dies(death)
    });
}

#[test]
fn a_server_that_dies_before_any_change_to_its_large_updates_comes_to_the_same_adapter() {
    let federation = Federation::create_wide(PROGRAMS, &NAMES);
    let expected = whole_in(&federation, &SETTINGS);
    comes_to_the_same_adapter("/updates", stride(24), &expected, |death| {
        PLAIN.server_dies_in(&Federation::create_wide(PROGRAMS, &NAMES), death)
    });
}

#[test]
fn a_client_that_dies_before_any_change_in_its_folder_comes_to_the_same_adapter() {
    comes_to_the_same_adapter("/bank-b-adapter", stride(8), &whole(), |death| {
        PLAIN.client_dies(death)
    });
}

/// Its training is kept after each step, and gone on with.
#[test]
fn a_client_that_dies_before_any_change_while_it_keeps_its_training_comes_to_the_same_adapter() {
    comes_to_the_same_adapter(
        "/bank-b-adapter.state.training",
        stride(8),
        &whole(),
        |death| {
            let federation = PLAIN.federation();
            federation.set_client(NAMES[1], "checkpoint_every = \"0s\"");
            PLAIN.client_dies_in(&federation, death, |_| ())
        },
    );
}

/// No masked update is kept, so what a round came to is on disk before anything else of it is gone.
#[test]
fn a_server_of_a_masked_run_that_dies_before_any_change_in_its_folder_comes_to_the_same_adapter() {
    let run = |death: &Death| MASKED.server_dies(death);
    comes_to_the_same_adapter("/runs/", stride(48), &masked::plain(), run);
}

/// Its keys die with it: another attempt follows, of the same members.
#[test]
fn a_client_of_a_masked_run_that_dies_before_any_change_in_its_folder_comes_to_the_same_adapter() {
    let run = |death: &Death| MASKED.client_dies(death);
    comes_to_the_same_adapter("/bank-b-adapter", stride(24), &masked::plain(), run);
}
