//! Any file in the place of an egress ledger, and any damage to one.

use std::{collections::BTreeSet, fs, sync::OnceLock};

use proptest::prelude::*;

use super::{
    tests::{Site, at},
    *,
};
use crate::properties::{any_bytes, damage, fixed_seed};

/// A ledger that was written and closed.
struct Written {
    site: Site,
    bytes: Vec<u8>,
    /// The file with its head.
    kept: Vec<u8>,
    keys: BTreeSet<Digest>,
    head: Digest,
}

fn written() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let site = Site::new();
        let head = site.written().head();
        Written {
            bytes: site.bytes(),
            kept: fs::read(KeptHead::path(&site.path())).unwrap(),
            keys: site.keys(),
            head,
            site,
        }
    })
}

/// The lines that end with a newline.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte == b'\n');
    &bytes[..end.map_or(0, |end| end + 1)]
}

/// Opens a ledger that holds these bytes, beside its head if that is kept, and gives what it holds then.
fn opened(bytes: &[u8], head: Option<&[u8]>) -> (Result<(), LedgerError>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("egress.ledger");
    fs::write(&path, bytes).unwrap();
    if let Some(head) = head {
        fs::write(KeptHead::path(&path), head).unwrap();
    }
    let opened = Ledger::open(&path, &written().site.tls, "test 1", at(5)).map(drop);
    (opened, fs::read(path).unwrap())
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn bytes_that_nobody_wrote_are_no_ledger_and_no_panic(bytes in any_bytes()) {
        let Written { keys, .. } = written();
        let whole = whole_lines(&bytes);
        prop_assert_eq!(Reading::of(&bytes).is_ok(), whole.is_empty());
        prop_assert_eq!(verify(&bytes, keys, None).is_ok(), whole.is_empty());
    }

    #[test]
    fn damaged_file_does_not_verify_beside_its_head(damage in damage()) {
        let Written { bytes, keys, head, .. } = written();
        let changed = damage.done_to(bytes);
        prop_assume!(changed != *bytes);
        // Lines are as they were, and after them stands the beginning of one that was cut off.
        let is_cut = |tail: &[u8]| !tail.is_empty() && !tail.contains(&b'\n');
        let only_cut = changed.strip_prefix(bytes.as_slice()).is_some_and(is_cut)
            // Without its newline the last line is not whole; the head says that it was.
            || bytes.strip_suffix(b"\n") == Some(&changed);
        let verdict = verify(&changed, keys, Some(*head));
        prop_assert_eq!(verdict.is_ok(), only_cut);
        prop_assert!(verdict.is_err() || verdict.is_ok_and(|found| found.reading.tail.is_some()));
    }
}

proptest! {
    // Each writes a file and waits for the disk.
    #![proptest_config(proptest::test_runner::Config { cases: 128, ..fixed_seed() })]

    #[test]
    fn damaged_ledger_is_written_on_only_where_a_crash_could_have_cut_it(damage in damage()) {
        let Written { bytes, keys, .. } = written();
        let changed = damage.done_to(bytes);
        let (opened, now) = opened(&changed, None);
        let whole = whole_lines(&changed);
        if bytes.starts_with(whole) {
            prop_assert!(opened.is_ok(), "{:?}", opened);
            prop_assert!(now.starts_with(whole));
            prop_assert!(verify(&now, keys, None).is_ok());
        } else {
            let said = opened.unwrap_err().to_string();
            for word in ["egress.ledger is damaged: line ", "keep it as evidence"] {
                prop_assert!(said.contains(word), "{}", said);
            }
            prop_assert_eq!(now, changed);
        }
    }

    #[test]
    fn ledger_that_lacks_anything_is_not_written_on_beside_its_head(damage in damage()) {
        let Written { bytes, kept, .. } = written();
        let changed = damage.done_to(bytes);
        let (opened, now) = opened(&changed, Some(kept));
        prop_assert_eq!(opened.is_ok(), whole_lines(&changed) == bytes);
        prop_assert!(opened.is_ok() || now == changed);
    }
}

/// Signatures are not looked at when lines are read: what somebody else put there may be any number.
#[test]
fn numbers_beyond_any_are_added_up_without_a_panic() {
    let most = u64::MAX;
    let line = |number: u64, previous: Digest, fact: Fact| {
        let entry = Entry {
            number,
            at: at(0),
            previous,
            fact,
        };
        line::write(&entry, |_| [0; 64])
    };
    let dial = |connection| Fact::Dial {
        connection,
        address: "hub:4433".to_owned(),
        bytes: most,
    };
    let closed = |connection| Fact::Closed {
        connection,
        datagrams: most,
        datagram_bytes: most,
        stream_bytes: most,
    };
    let (mut text, mut head) = (String::new(), Digest::default());
    for (number, fact) in (0..).zip([dial(most), dial(1), closed(most), closed(1)]) {
        let next = line(number, head, fact);
        head = line::digest(&next);
        text += &next;
    }
    let reading = Reading::of(text.as_bytes()).unwrap();
    let totals = &reading.totals;
    assert_eq!(
        (totals.stream_bytes(), totals.day_bytes(at(0))),
        (most, most)
    );
    assert_eq!(
        (totals.datagrams().bytes, totals.next_connection()),
        (most, most)
    );
    assert!(
        reading
            .check_end()
            .unwrap_err()
            .to_string()
            .contains("whose key")
    );
}
