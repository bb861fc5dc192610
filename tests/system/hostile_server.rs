//! A server that deceives the real client over real TLS: with a good certificate, and adapters and deltas that are not
//! what they must be. The client refuses each by name, keeps what it has finished, and ends up with the adapter that an
//! honest server gives.

mod impostor;
mod trick;

use std::fs;

use tests::{Federation, Finished, assert_success};

use self::impostor::Impostor;
use self::trick::{LONG_BYTES, Trick};
use crate::PROGRAMS;

const NAMES: [&str; 2] = ["hospital-a", "bank-b"];
const VICTIM: &str = NAMES[0];
const HUB: &str = "foedus://north-sea/server/hub at 127.0.0.1:";

/// A federation whose adapters come as deltas, with an impostor before its server for one of the two participants.
struct Trial {
    federation: Federation,
    server: tests::Program,
    impostor: Impostor,
    other: tests::Program,
}

impl Trial {
    fn begin(rounds: u32) -> Self {
        let federation = Federation::create_wide(PROGRAMS, &NAMES);
        let settings = [
            format!("cohort.participants={NAMES:?}"),
            format!("run.rounds={rounds}"),
            "run.download=\"delta\"".to_owned(),
            "cohort.join_deadline=2min".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let (server, address) = federation.start_server(2, &settings);
        let impostor = Impostor::before(&address, federation.path(), VICTIM);
        let other = federation.start_client(NAMES[1], &address);
        Self {
            federation,
            server,
            impostor,
            other,
        }
    }

    /// Takes part once, deceived like this, to the end.
    fn take_part(&self, trick: Trick) -> Finished {
        self.impostor.play(trick);
        let victim = self.federation.start_client(VICTIM, &self.impostor.address);
        victim.finish()
    }

    /// The final adapter and what the server said.
    fn end(self) -> (Vec<u8>, String) {
        assert_success(&self.other.finish());
        let server = self.server.finish();
        assert_success(&server);
        let adapter = "runs/trial/adapter/adapter_model.safetensors";
        let adapter = fs::read(self.federation.file(adapter)).unwrap();
        let own = format!("{VICTIM}-adapter/adapter_model.safetensors");
        assert!(fs::read(self.federation.file(&own)).unwrap() == adapter);
        (adapter, server.text)
    }
}

/// The adapter of a run in which nobody is deceived.
fn honest(rounds: u32) -> Vec<u8> {
    let trial = Trial::begin(rounds);
    assert_success(&trial.take_part(Trick::None));
    trial.end().0
}

#[test]
fn a_delta_that_lies_or_is_against_nothing_or_unpacks_without_end_costs_a_whole_download() {
    let trial = Trial::begin(5);
    let victim = trial.take_part(Trick::UselessDeltas);
    assert_success(&victim);
    let refused: Vec<&str> = victim
        .text
        .lines()
        .filter(|line| line.contains("a delta is of no use"))
        .collect();
    let expected = [
        ("2", "bad-delta", "it comes to another adapter than it says"),
        ("3", "no-base", "that it is against is not here"),
        ("4", "bad-delta", "too small"),
        ("5", "bad-delta", "4611686018427387903 values"),
        ("5", "bad-delta", "too small"),
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:#?}");
    for (line, (round, reason, what)) in refused.iter().zip(expected) {
        let round = format!("round={round}");
        let has_all = [&*round, reason, what]
            .iter()
            .all(|word| line.contains(word));
        assert!(has_all, "{round}, {reason}, {what} in {line}");
    }
    let (adapter, log) = trial.end();
    let resent = log.matches("sent once more, whole").count();
    assert_eq!(resent, expected.len(), "{log}");
    assert!(adapter == honest(5), "another adapter");
}

#[test]
fn a_delta_that_is_no_shorter_than_the_adapter_is_refused_at_its_header_and_costs_a_whole_download()
{
    let trial = Trial::begin(2);
    let victim = trial.take_part(Trick::LongDeltas);
    assert_success(&victim);
    let lines = victim.text.lines();
    let refused: Vec<&str> = lines
        .filter(|line| line.contains("a delta is of no use"))
        .collect();
    let values = u64::try_from(final_bytes(&trial.federation)).unwrap() / 4;
    let expected = [
        format!(
            "it is announced with {0} bytes, and the whole adapter has {0}",
            2 * values
        ),
        format!(
            "it is announced with {LONG_BYTES} bytes, and the whole adapter has {}",
            4 * values
        ),
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:#?}");
    for (line, what) in refused.iter().zip(&expected) {
        assert!(
            line.contains(what) && line.contains("bad-delta"),
            "{what} in {line}"
        );
    }
    // Two adapters in bf16, and the final one: nothing of the deltas.
    let received = format!(
        "{:.1} MiB received",
        (8 * values) as f64 / f64::from(1 << 20)
    );
    assert!(
        victim.text.contains(&received),
        "{received} in {}",
        victim.text
    );
    let (adapter, log) = trial.end();
    assert_eq!(log.matches("sent once more, whole").count(), 2, "{log}");
    assert!(adapter == honest(2), "another adapter");
}

/// Bytes of the run's adapter in f32.
fn final_bytes(federation: &Federation) -> usize {
    let file = federation.file(&format!("{VICTIM}-adapter/adapter_model.safetensors"));
    let bytes = fs::read(file).unwrap();
    let header: [u8; 8] = bytes[..8].try_into().unwrap();
    bytes.len() - 8 - usize::try_from(u64::from_le_bytes(header)).unwrap()
}

#[test]
fn a_server_that_sends_no_adapter_of_the_run_is_named_and_what_was_finished_is_kept() {
    let trial = Trial::begin(3);
    // The largest transfer that the site takes in: more than the adapters of this run have, in both forms.
    let config = format!("{VICTIM}.toml");
    let text = fs::read_to_string(trial.federation.file(&config)).unwrap();
    let limited = text.replace("[connection]", "[connection]\ntransfer_max = \"4MB\"");
    trial.federation.write(&config, &limited);
    let state = trial.federation.file(&format!("{VICTIM}-adapter.state"));
    let (before, first) = ("before the first round", "in round 1");
    let begun = [
        (
            Trick::BeforeThePlan,
            before,
            "a transfer is not allowed while waiting for Welcome",
        ),
        (Trick::Short, first, "wrong length in bytes"),
        (Trick::OtherBytes, first, "wrong SHA-256"),
        (
            Trick::NotFinite,
            first,
            "the server's adapter for round 1 cannot be used",
        ),
    ];
    for (trick, round, what) in begun {
        assert_refused(trick, &trial.take_part(trick), round, what);
        assert!(!state.exists(), "{trick:?}: nothing was finished");
    }
    let finished = [
        (Trick::ShortOnOffer, 1, "wrong length in bytes"),
        (Trick::EndlessOnOffer, 1, "more than the limit of 4000000"),
        (
            Trick::AnchorOnOffer,
            1,
            "an anchor is not allowed while the plan needs none",
        ),
        (
            Trick::AnotherUselessDelta,
            2,
            "another delta of no use (bad-delta)",
        ),
        (Trick::OtherAdapter, 2, "digest of the global adapter"),
    ];
    let mut offered = None;
    for (trick, round, what) in finished {
        let victim = trial.take_part(trick);
        assert_refused(trick, &victim, &format!("in round {round}"), what);
        // What was trained once in the first round is offered again, until the server has it.
        assert_eq!(trained(&victim), u32::from(offered.is_none()), "{trick:?}");
        let kept = fs::read(&state).unwrap();
        assert!(
            *offered.get_or_insert_with(|| kept.clone()) == kept,
            "{trick:?}"
        );
    }
    let victim = trial.take_part(Trick::None);
    assert_success(&victim);
    assert_eq!(trained(&victim), 2);
    let (adapter, _) = trial.end();
    assert!(adapter == honest(3), "another adapter");
}

/// The client keeps what it saw as evidence, and goes on with the true record of the same round.
#[test]
fn a_record_without_ones_own_update_or_with_another_weight_is_held_against_the_server() {
    let trial = Trial::begin(2);
    for (trick, what) in [
        (
            Trick::RecordWithoutUpdate,
            "the server acknowledged our update of round 1, and no record counts it",
        ),
        (
            Trick::RecordOfAnotherWeight,
            "the lines of the record of round 1",
        ),
    ] {
        let victim = trial.take_part(trick);
        assert_refused(trick, &victim, "transcript is kept in", what);
    }
    assert_success(&trial.take_part(Trick::None));
    let (adapter, _) = trial.end();
    assert!(adapter == honest(2), "another adapter");
}

/// The client ended for good, and said what was wrong, with which server, and in which round.
#[track_caller]
fn assert_refused(trick: Trick, victim: &Finished, round: &str, what: &str) {
    let said = victim
        .text
        .lines()
        .find(|line| line.starts_with("foedus-client: "));
    let said = said.unwrap_or_else(|| panic!("{trick:?}: {}", victim.text));
    assert_eq!(victim.code, Some(1), "{trick:?}: {said}");
    for word in [what, HUB, round] {
        assert!(said.contains(word), "{trick:?}: no {word} in: {said}");
    }
}

/// Rounds in which the client trained.
fn trained(client: &Finished) -> u32 {
    let lines = client.text.lines();
    let count = lines
        .filter(|line| line.contains("INFO trained round="))
        .count();
    u32::try_from(count).unwrap()
}
