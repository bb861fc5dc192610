use protocol::ParticipantName;
use protocol::close::RefusalReason;
use protocol::message::{Content, Metrics, TransferHeader};

use super::*;
use crate::record::tests::sealed;

impl Journal {
    /// From now on no entry can be written down, as on a disk that fails.
    pub(crate) fn spoil(&self) {
        let other: TableDefinition<'static, &str, u64> = TableDefinition::new("entries");
        let transaction = self.database.begin_write().unwrap();
        transaction.delete_table(ENTRIES).unwrap();
        transaction.open_table(other).unwrap();
        transaction.commit().unwrap();
    }
}

fn identity() -> Identity {
    Identity::new(Digest([1; 32]), Digest([2; 32]))
}

fn record(round: u32) -> RoundRecord {
    RoundRecord {
        round,
        seconds: 1.0,
        participants: Vec::new(),
        refused: Vec::new(),
        missing: Vec::new(),
        update_norm: 0.1,
        inexactness: Some(0.2),
        rule: None,
        rounding: 0.0,
        bytes_up: 3,
        bytes_down: 4,
        adapter_sha256: Digest([3; 32]).to_string(),
        ewc: None,
        secure: None,
        participant_privacy: None,
        turned_away: Vec::new(),
    }
}

fn entries(round: u32) -> [Entry; 3] {
    let participant = || "north".parse().unwrap();
    let round = Round(round);
    [
        Entry::Joined {
            participant: participant(),
        },
        Entry::Opened { round },
        Entry::Refused {
            participant: participant(),
            round,
            reason: RefusalReason::NotFinite,
        },
    ]
}

#[test]
fn what_was_recorded_is_there_when_the_journal_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let (journal, found) = Journal::open(&path, &identity()).unwrap();
    assert!(found.rounds.is_empty() && found.history == History::default());
    journal.record(&entries(1)[..1]).unwrap();
    journal.record(&entries(1)[1..]).unwrap();
    drop(journal);
    let (journal, found) = Journal::open(&path, &identity()).unwrap();
    let open = found.history.open.unwrap();
    assert_eq!(open.refused.len(), 1);
    assert_eq!(found.history.joined.len(), 1);
    journal.round_done(&record(1), &sealed(1)).unwrap();
    journal.finish().unwrap();
    drop(journal);
    let (_, found) = Journal::open(&path, &identity()).unwrap();
    assert_eq!(found.rounds, [record(1)]);
    assert!(found.is_finished);
    assert_eq!((found.history.rounds_done, found.history.open), (1, None));
    assert_eq!(found.history.joined.len(), 1, "who joined is still known");
}

#[test]
fn the_updates_of_a_round_are_known_until_its_adapter_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let (journal, _) = Journal::open(&path, &identity()).unwrap();
    let participant: ParticipantName = "south".parse().unwrap();
    let content = Content::of(b"an update");
    let accepted = |round| Admission {
        participant: participant.clone(),
        round,
        weight: 3,
        metrics: Metrics::default(),
        transfer: TransferHeader::update(&participant, round, Digest([1; 32]), content),
    };
    journal.record(&entries(1)).unwrap();
    let first = accepted(Round(1));
    journal.record(&[Entry::Accepted(first.clone())]).unwrap();
    journal.round_done(&record(1), &sealed(1)).unwrap();
    // The next round goes on before the folder is written.
    journal.record(&entries(2)).unwrap();
    let second = Entry::Accepted(accepted(Round(2)));
    journal.record(&[second]).unwrap();
    drop(journal);
    let is_second = |found: &Found| {
        let open = found.history.open.as_ref().unwrap();
        (
            found.history.rounds_done,
            open.accepted.len(),
            open.refused.len(),
        ) == (1, 1, 1)
    };
    let (journal, found) = Journal::open(&path, &identity()).unwrap();
    assert_eq!(found.unsettled, [first]);
    assert!(is_second(&found), "{found:?}");
    journal.settled(1).unwrap();
    drop(journal);
    let (_, found) = Journal::open(&path, &identity()).unwrap();
    assert!(found.unsettled.is_empty() && is_second(&found), "{found:?}");
}

#[test]
fn a_journal_is_one_servers_and_one_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let first = Journal::open(&path, &identity()).unwrap();
    let busy = Journal::open(&path, &identity()).unwrap_err();
    assert!(matches!(busy, JournalError::Busy { .. }), "{busy}");
    drop(first);
    for (other, what) in [
        (
            Identity::new(Digest([9; 32]), Digest([2; 32])),
            "another plan",
        ),
        (
            Identity::new(Digest([1; 32]), Digest([9; 32])),
            "another start adapter",
        ),
    ] {
        let error = Journal::open(&path, &other).unwrap_err().to_string();
        assert!(
            error.contains(what) && error.contains("run.name"),
            "{error}"
        );
    }
    Journal::open(&path, &identity()).unwrap();
}

#[test]
fn a_damaged_journal_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    std::fs::write(&path, b"no database, but something of the operator's").unwrap();
    let error = Journal::open(&path, &identity()).unwrap_err().to_string();
    assert!(error.contains("journal.redb"), "{error}");
    let kept = std::fs::read(&path).unwrap();
    assert_eq!(kept, b"no database, but something of the operator's");
    std::fs::remove_file(&path).unwrap();
    let (journal, _) = Journal::open(&path, &identity()).unwrap();
    journal.round_done(&record(2), &sealed(2)).unwrap();
    drop(journal);
    let error = Journal::open(&path, &identity()).unwrap_err().to_string();
    assert!(error.contains("round 1 is missing"), "{error}");
}

/// Damage is named or harmless, and never a panic: the database has some for damage that its checksums do not see.
#[test]
fn a_journal_with_a_flipped_bit_or_a_missing_end_is_named_or_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let (journal, _) = Journal::open(&path, &identity()).unwrap();
    for round in 1..=2 {
        journal.record(&entries(round)).unwrap();
        journal.round_done(&record(round), &sealed(round)).unwrap();
    }
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    let (mut named, mut state) = (0, 7_u64);
    for number in 0..300 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let place = (state >> 16) as usize % whole.len();
        let mut damaged = whole.clone();
        if number % 3 == 0 {
            damaged.truncate(place);
        } else {
            damaged[place] ^= 1 << (state % 8);
        }
        std::fs::write(&path, &damaged).unwrap();
        match Journal::open(&path, &identity()) {
            Err(error) => {
                assert!(error.to_string().contains("journal.redb"), "{error}");
                named += 1;
            }
            Ok((_, found)) => assert!(found.rounds.len() <= 2, "{number}"),
        }
    }
    assert!(30 < named, "only {named} of 300 were noticed");
}
