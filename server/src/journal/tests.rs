use std::fs;

use protocol::ParticipantName;
use protocol::close::RefusalReason;
use protocol::coordinator::{Admission, History, Late};
use protocol::message::{Content, Metrics, TransferHeader};
use protocol::secagg::{AttemptId, Failure};
use protocol::text::Text;

use redb::ReadableDatabase as _;

use super::found::rows;
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

/// What a kill or a full disk leaves of one that was being made: nothing that the database can open.
#[test]
fn a_journal_whose_making_broke_off_is_made_anew_and_never_bears_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (path, part) = (
        folder.path().join("journal.redb"),
        folder.path().join("journal.redb.part"),
    );
    fs::write(&part, [0; 4096]).unwrap();
    let (journal, _) = Journal::open(&path, &identity()).unwrap();
    assert!(path.exists() && !part.exists());
    journal.record(&entries(1)).unwrap();
    drop(journal);
    let (_, found) = Journal::open(&path, &identity()).unwrap();
    assert!(found.history.open.is_some());
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
fn how_often_a_rounds_only_sum_was_none_is_known_to_the_next_process_until_the_round_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let round = Round(1);
    let members = vec!["north".parse().unwrap()];
    for times in 1..=2 {
        let (journal, found) = Journal::open(&path, &identity()).unwrap();
        let before = found.history.open.map_or(0, |open| open.unopened);
        assert_eq!(before, times - 1);
        let members = members.clone();
        let entries = [
            Entry::Opened { round },
            Entry::SumFixed { round, members },
            Entry::SumUnopened { round, times },
        ];
        journal.record(&entries).unwrap();
    }
    let (journal, found) = Journal::open(&path, &identity()).unwrap();
    assert_eq!(found.history.open.unwrap().unopened, 2);
    journal.round_done(&record(1), &sealed(1)).unwrap();
    journal.settled(1).unwrap();
    assert_eq!(count(&journal), 0);
}

#[test]
fn over_whom_an_attempt_failed_is_known_to_the_next_process_until_the_round_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let round = Round(1);
    let failed = |number: u32| Entry::AttemptFailed {
        attempt: AttemptId { round, number },
        failure: Failure::TooFew {
            what: Text::new("keys"),
            found: 2,
            members: 3,
            least: 3,
            silent: vec!["north".parse().unwrap()],
        },
    };
    let (journal, _) = Journal::open(&path, &identity()).unwrap();
    let opened = Entry::Opened { round };
    journal.record(&[opened, failed(1), failed(3)]).unwrap();
    drop(journal);
    let (journal, found) = Journal::open(&path, &identity()).unwrap();
    let failures = found.history.open.unwrap().failures;
    let numbers: Vec<_> = failures.keys().copied().collect();
    assert_eq!(numbers, [1, 3]);
    let said = "2 of 3 members were left when keys were due, 3 are needed";
    assert_eq!(failures[&3].to_string(), said);
    journal.round_done(&record(1), &sealed(1)).unwrap();
    journal.settled(1).unwrap();
    assert_eq!(count(&journal), 0);
}

/// How many entries there are.
fn count(journal: &Journal) -> usize {
    let transaction = journal.database.begin_read().unwrap();
    rows(&transaction.open_table(ENTRIES).unwrap())
        .unwrap()
        .len()
}

#[test]
fn a_thousand_who_come_and_go_leave_as_many_entries_as_are_there_and_the_same_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let (journal, _) = Journal::open(&path, &identity()).unwrap();
    let late = |round| Late {
        round: Round(round),
        global: Digest([5; 32]),
    };
    let mut expected = History::default();
    let mut lengths = Vec::new();
    for round in 1..=4 {
        let mut said = entries(round).to_vec();
        // Of ten that flap a hundred times each, the last three stay, and one of them is late.
        for number in 0..1000 {
            let participant: ParticipantName = format!("site-{}", number % 10).parse().unwrap();
            said.push(Entry::Joined {
                participant: participant.clone(),
            });
            if number % 3 == 0 {
                said.push(Entry::Postponed {
                    participant: participant.clone(),
                    late: late(round),
                });
            }
            if number < 997 {
                said.push(Entry::Parted { participant });
            }
        }
        for some in said.chunks(100) {
            journal.record(some).unwrap();
        }
        said.into_iter().for_each(|entry| expected.note(entry));
        assert!(2000 < count(&journal));
        journal.round_done(&record(round), &sealed(round)).unwrap();
        expected.round_done();
        // Those of the round that is done go with its adapter; what is said of the next stays behind them.
        journal.record(&entries(round + 1)[..2]).unwrap();
        journal.settled(round).unwrap();
        // Four are there, one of them is late, the next round is open; "north" joined twice.
        assert_eq!(count(&journal), 7);
        lengths.push(fs::metadata(&path).unwrap().len());
    }
    assert_eq!(lengths[0], lengths[3], "{lengths:?}");
    expected.note(Entry::Opened { round: Round(5) });
    drop(journal);
    let (_, found) = Journal::open(&path, &identity()).unwrap();
    assert_eq!(found.history, expected);
    let three = ["north", "site-7", "site-8", "site-9"];
    let joined: Vec<_> = found
        .history
        .joined
        .iter()
        .map(|one| one.as_str())
        .collect();
    assert_eq!(joined, three);
    assert_eq!(found.history.late.len(), 1);
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
    fs::write(&path, b"no database, but something of the operator's").unwrap();
    let error = Journal::open(&path, &identity()).unwrap_err().to_string();
    assert!(
        error.contains("journal.redb") && error.contains("from a backup"),
        "{error}"
    );
    let kept = fs::read(&path).unwrap();
    assert_eq!(kept, b"no database, but something of the operator's");
    fs::remove_file(&path).unwrap();
    let (journal, _) = Journal::open(&path, &identity()).unwrap();
    journal.round_done(&record(2), &sealed(2)).unwrap();
    drop(journal);
    let error = Journal::open(&path, &identity()).unwrap_err().to_string();
    assert!(error.contains("round 1 is missing"), "{error}");
}

/// A file in which bits were flipped or which was cut off, as the disk has it after a server's orderly end or in its midst.
fn damaged(whole: &[u8], number: u64) -> Vec<u8> {
    let mut damaged = whole.to_vec();
    let place = |number: u64| number.wrapping_mul(6_364_136_223_846_793_005) >> 16;
    match number % 3 {
        0 => damaged.truncate(place(number) as usize % whole.len()),
        // Where the commits are kept: the first page's beginning.
        1 => damaged[place(number) as usize % 320] ^= 1 << (number / 3 % 8),
        _ => {
            // Where there is something.
            let used: Vec<_> = (0..whole.len()).filter(|&at| whole[at] != 0).collect();
            damaged[used[place(number) as usize % used.len()]] ^= 1 << (number / 3 % 8);
        }
    }
    damaged
}

/// Damage is named or harmless, and never a panic, nor a journal that says less than it did.
#[test]
fn a_journal_with_a_flipped_bit_or_a_missing_end_is_named_or_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.redb");
    let (journal, _) = Journal::open(&path, &identity()).unwrap();
    for round in 1..=2 {
        journal.record(&entries(round)).unwrap();
        journal.round_done(&record(round), &sealed(round)).unwrap();
    }
    journal.record(&entries(3)).unwrap();
    let unclosed = fs::read(&path).unwrap();
    drop(journal);
    let closed = fs::read(&path).unwrap();
    let (_, whole) = Journal::open(&path, &identity()).unwrap();
    let mut named = 0;
    for (of, bytes) in [("closed", &closed), ("unclosed", &unclosed)] {
        for number in 0..300 {
            fs::write(&path, damaged(bytes, number)).unwrap();
            match Journal::open(&path, &identity()) {
                Err(error) => {
                    let error = error.to_string();
                    let says = error.contains("journal.redb") && error.contains("from a backup");
                    assert!(says, "{of} {number}: {error}");
                    named += 1;
                }
                Ok((_, found)) => {
                    assert_eq!(format!("{found:?}"), format!("{whole:?}"), "{of} {number}");
                }
            }
        }
    }
    assert!(300 < named, "only {named} of 600 were noticed");
}
