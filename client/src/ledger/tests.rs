//! The file over restarts and crashes, what verification notices, and the sums.

mod damage;
mod head;

use std::{collections::BTreeSet, fs};

use certs::throwaway::Federation;
use jiff::{SignedDuration, Timestamp};
use protocol::{Digest, Round, quic::TlsMaterial};
use tempfile::TempDir;

use super::*;

const PLAN: Digest = Digest([5; 32]);

/// A site with a folder for its ledger.
pub(super) struct Site {
    folder: TempDir,
    pub(super) tls: TlsMaterial,
}

impl Site {
    pub(super) fn new() -> Self {
        let federation = Federation::create("treaty", &["north"]).unwrap();
        let material = federation.participant("north").unwrap();
        let tls = TlsMaterial::from_pem(
            &material.certificate,
            &material.key,
            &material.authority,
            None,
        )
        .unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            tls,
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("books").join("egress.ledger")
    }

    fn open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(&self.path(), &self.tls, "test 1", at(0))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    pub(super) fn keys(&self) -> BTreeSet<Digest> {
        BTreeSet::from([Digest(self.tls.public_key())])
    }

    /// A ledger of one connection with everything in it.
    pub(super) fn written(&self) -> Ledger {
        let mut ledger = self.open().unwrap();
        for (hour, fact) in facts(1) {
            ledger.record(fact, at(hour)).unwrap();
        }
        ledger
    }
}

pub(super) fn at(hour: i64) -> Timestamp {
    let noon: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
    noon + SignedDuration::from_hours(hour)
}

fn run() -> RunReference {
    RunReference {
        run: "trial".to_owned(),
        plan: PLAN,
    }
}

/// One connection: 8 bytes of greeting, a message of 20, half an update of 100 and a header of 50, a refusal.
fn facts(connection: u64) -> Vec<(i64, Fact)> {
    vec![
        (
            0,
            Fact::Dial {
                connection,
                address: "hub:4433".to_owned(),
                bytes: 8,
            },
        ),
        (
            0,
            Fact::Connected {
                connection,
                server: "foedus://treaty/server/hub".to_owned(),
                certificate: Digest([6; 32]),
            },
        ),
        (
            1,
            Fact::Message {
                connection,
                message: "Hello".to_owned(),
                run: None,
                round: None,
                bytes: 5,
            },
        ),
        (
            1,
            Fact::Message {
                connection,
                message: "Offer".to_owned(),
                run: Some(run()),
                round: Some(1),
                bytes: 20,
            },
        ),
        (
            2,
            Fact::Transfer {
                connection,
                purpose: Purpose::Update,
                run: run(),
                round: 1,
                sha256: Digest([7; 32]),
                from: 100,
                to: 200,
                header_bytes: 50,
                epsilon: Some(1.25),
            },
        ),
        (
            3,
            Fact::Refused {
                run: Some(run()),
                reasons: vec!["policy.toml:3: no".to_owned(), "and, \"no\"".to_owned()],
            },
        ),
        (
            3,
            Fact::Closed {
                connection,
                datagrams: 9,
                datagram_bytes: 400,
                stream_bytes: 183,
            },
        ),
    ]
}

#[test]
fn ledger_goes_on_over_restarts_and_verifies() {
    let site = Site::new();
    let head = site.written().head();
    drop(site.open().unwrap());
    let verified = verify(&site.bytes(), &site.keys(), Some(head)).unwrap();
    let kinds: Vec<_> = verified
        .reading
        .entries
        .iter()
        .map(|entry| entry.fact.kind())
        .collect();
    let expected = [
        "opened",
        "dial",
        "connected",
        "message",
        "message",
        "transfer",
        "refused",
        "closed",
        "opened",
    ];
    assert_eq!(kinds, expected);
    let facts: Vec<_> = verified.reading.entries[1..8]
        .iter()
        .map(|entry| entry.fact.clone())
        .collect();
    assert_eq!(
        facts,
        self::facts(1)
            .into_iter()
            .map(|(_, fact)| fact)
            .collect::<Vec<_>>()
    );
}

#[test]
fn sums_are_those_of_the_lines() {
    let site = Site::new();
    let ledger = site.written();
    let totals = ledger.totals();
    assert_eq!(totals.stream_bytes(), 8 + 5 + 20 + 150);
    assert_eq!(totals.connection_bytes(1), 183);
    assert_eq!(
        (totals.transfers().count, totals.transfers().bytes),
        (1, 150)
    );
    assert_eq!(
        (totals.datagrams().count, totals.datagrams().bytes),
        (9, 400)
    );
    assert_eq!(ledger.round_bytes(PLAN, Round(1)), 170);
    assert_eq!(ledger.round_bytes(PLAN, Round(2)), 0);
    assert_eq!(ledger.round_bytes(Digest([9; 32]), Round(1)), 0);
    assert_eq!(ledger.next_connection(), 2);
}

#[test]
fn bytes_count_for_a_day_and_a_clock_put_back_frees_none() {
    let site = Site::new();
    let ledger = site.written();
    assert_eq!(ledger.day_bytes(at(3)), 183);
    // The greeting left 24 hours before.
    assert_eq!(ledger.day_bytes(at(24)), 175);
    assert_eq!(ledger.day_bytes(at(25)), 150);
    assert_eq!(ledger.day_bytes(at(26)), 0);
    assert_eq!(ledger.day_bytes(at(-1000)), 183);
    drop(ledger);
    assert_eq!(site.open().unwrap().day_bytes(at(24)), 175);
}

#[test]
fn a_clock_that_jumps_ahead_and_comes_back_frees_none() {
    let site = Site::new();
    let mut ledger = site.written();
    let said = Fact::Message {
        connection: 1,
        message: "Hello".to_owned(),
        run: None,
        round: None,
        bytes: 5,
    };
    ledger.record(said, at(1000)).unwrap();
    assert_eq!(ledger.day_bytes(at(1000)), 5);
    assert_eq!(ledger.day_bytes(at(3)), 188);
    drop(ledger);
    assert_eq!(site.open().unwrap().day_bytes(at(3)), 188);
}

#[test]
fn missing_doubled_and_exchanged_lines_are_noticed() {
    let site = Site::new();
    let head = site.written().head();
    let text = String::from_utf8(site.bytes()).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    assert_eq!(line::digest(lines.last().unwrap()), head);
    let broken =
        |lines: &[&str], noted| verify(lines.concat().as_bytes(), &site.keys(), noted).unwrap_err();
    for place in 1..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(place - 1);
        let flaw = broken(&fewer, None);
        assert_eq!(flaw.line, place as u64, "{flaw}");
        let mut exchanged = lines.clone();
        exchanged.swap(place - 1, place);
        assert_eq!(broken(&exchanged, None).line, place as u64);
        let mut doubled = lines.clone();
        doubled.insert(place, lines[place - 1]);
        assert_eq!(broken(&doubled, None).line, place as u64 + 1);
    }
    // The chain says nothing about its end.
    let shorter = &lines[..lines.len() - 1];
    assert!(verify(shorter.concat().as_bytes(), &site.keys(), None).is_ok());
    assert!(broken(shorter, Some(head)).to_string().contains("cut off"));
}

#[test]
fn ledger_of_another_key_is_refused_unless_its_certificate_is_given() {
    let (site, other) = (Site::new(), Site::new());
    drop(site.written());
    drop(Ledger::open(&site.path(), &other.tls, "test 2", at(4)).unwrap());
    let flaw = verify(&site.bytes(), &site.keys(), None).unwrap_err();
    assert_eq!(flaw.line, 9, "{flaw}");
    assert!(flaw.to_string().contains("earlier certificate"), "{flaw}");
    let both = &site.keys() | &other.keys();
    assert_eq!(verify(&site.bytes(), &both, None).unwrap().keys.len(), 2);
}

#[test]
fn only_one_process_writes() {
    let site = Site::new();
    let first = site.open().unwrap();
    let refused = site.open().unwrap_err();
    assert!(matches!(refused, LedgerError::InUse { .. }), "{refused}");
    drop(first);
    site.open().unwrap();
}

#[cfg(unix)]
#[test]
fn nothing_leaves_when_the_ledger_was_moved_away_or_replaced() {
    let site = Site::new();
    let mut ledger = site.open().unwrap();
    let moved = site.path().with_extension("moved");
    let mut record = |second| {
        let (_, fact) = facts(1).remove(0);
        ledger
            .record(fact, at(second))
            .map_err(|refused| refused.to_string())
    };
    record(1).unwrap();
    fs::rename(site.path(), &moved).unwrap();
    let refused = record(2).unwrap_err();
    assert!(refused.contains("nothing leaves without it"), "{refused}");
    fs::copy(&moved, site.path()).unwrap();
    let refused = record(3).unwrap_err();
    assert!(
        refused.contains("another file has taken its name"),
        "{refused}"
    );
    fs::rename(&moved, site.path()).unwrap();
    record(4).unwrap();
}

#[cfg(unix)]
#[test]
fn ledger_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let site = Site::new();
    drop(site.open().unwrap());
    assert_eq!(
        fs::metadata(site.path()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn table_has_a_row_an_entry_and_quotes_what_needs_it() {
    let site = Site::new();
    drop(site.written());
    let entries = Reading::of(&site.bytes()).unwrap().entries;
    let table = to_csv(&entries).unwrap();
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), entries.len());
    let transfer: Vec<_> = rows[5].iter().collect();
    assert_eq!(&transfer[2..4], ["transfer", "1"]);
    assert_eq!(
        (
            transfer[4],
            transfer[6],
            transfer[8],
            transfer[9],
            transfer[10]
        ),
        ("trial", "1", "150", "100", "200")
    );
    assert_eq!(transfer[12], "1.25");
    assert_eq!(&rows[6][15], "policy.toml:3: no; and, \"no\"");
}
