//! Lines that were cut off or changed.

use super::*;

#[test]
fn line_cut_off_by_a_crash_is_taken_away_and_said_wherever_it_was_cut() {
    let site = Site::new();
    drop(site.written());
    let whole = site.bytes();
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .unwrap()
        + 1;
    for end in [last + 1, (last + whole.len()) / 2, whole.len() - 1] {
        fs::write(site.path(), &whole[..end]).unwrap();
        // It is kept once the line is whole.
        fs::remove_file(KeptHead::path(&site.path())).unwrap();
        drop(site.open().unwrap());
        let reading = verify(&site.bytes(), &site.keys(), None).unwrap().reading;
        let facts: Vec<_> = reading.entries.iter().map(|entry| &entry.fact).collect();
        let cut = &whole[last..end];
        let expected = Fact::Torn {
            bytes: cut.len() as u64,
            sha256: Digest::of(cut),
        };
        assert_eq!(facts[facts.len() - 2], &expected);
        // The line that was lost is the one that closed the connection.
        assert_eq!(facts[facts.len() - 1], &Fact::Uncounted { connection: 1 });
        assert_eq!(reading.totals.uncounted_connections(), 1);
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let site = Site::new();
    drop(site.written());
    let whole = site.bytes();
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        let verdict = verify(&changed, &site.keys(), None);
        // A newline that is none makes the last line one that was cut off, which the head notices.
        let cut = place == whole.len() - 1;
        assert_eq!(verdict.is_ok(), cut, "byte {place}");
        assert!(!verdict.is_ok_and(|verified| verified.reading.tail.is_none()));
    }
}

#[test]
fn damaged_ledger_is_not_written_on() {
    let site = Site::new();
    drop(site.written());
    let mut bytes = site.bytes();
    bytes[40] ^= 1;
    fs::write(site.path(), &bytes).unwrap();
    let refused = site.open().unwrap_err().to_string();
    assert!(
        refused.contains("egress.ledger is damaged: line ") && refused.contains("evidence"),
        "{refused}"
    );
    assert_eq!(site.bytes(), bytes);
}

#[test]
fn ledger_whose_last_line_was_changed_anywhere_is_not_written_on() {
    let site = Site::new();
    drop(site.written());
    let whole = site.bytes();
    let body = &whole[..whole.len() - 1];
    let last = body.iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    for place in last..body.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        fs::write(site.path(), &changed).unwrap();
        let refused = site.open().unwrap_err().to_string();
        assert!(
            refused.contains("is damaged: line 8"),
            "byte {place}: {refused}"
        );
        assert_eq!(site.bytes(), changed);
    }
}
