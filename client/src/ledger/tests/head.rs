//! The head beside the ledger: what it notices, and what a crash leaves of it.

use super::*;

#[test]
fn lines_that_are_missing_at_the_end_are_noticed_by_the_head_beside() {
    let site = Site::new();
    drop(site.written());
    let text = String::from_utf8(site.bytes()).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    for left in 0..lines.len() {
        let cut = lines[..left].concat();
        fs::write(site.path(), &cut).unwrap();
        let refused = site.open().unwrap_err().to_string();
        let said =
            format!("is damaged: line {left}: the head beside it was kept when there were 8 lines");
        assert!(refused.contains(&said), "{refused}");
        assert_eq!(site.bytes(), cut.as_bytes());
    }
    fs::remove_file(site.path()).unwrap();
    let gone = Reading::at(&site.path()).unwrap_err().to_string();
    assert!(gone.contains("is damaged: line 0"), "{gone}");
    let refused = site.open().unwrap_err();
    assert!(matches!(refused, LedgerError::Damaged { .. }), "{refused}");
    fs::write(site.path(), &text).unwrap();
    drop(site.open().unwrap());
}

#[test]
fn another_ledger_in_the_place_of_the_one_that_was_is_noticed_by_the_head_beside() {
    let (site, other) = (Site::new(), Site::new());
    drop(site.written());
    drop(other.written());
    drop(other.open().unwrap());
    fs::write(site.path(), other.bytes()).unwrap();
    let refused = site.open().unwrap_err().to_string();
    let said = "line 8: it is not the one that was there when the head beside it was kept";
    assert!(refused.contains(said), "{refused}");
}

#[test]
fn ledger_whose_process_died_after_any_line_is_written_on() {
    let site = Site::new();
    for (hour, fact) in facts(1) {
        site.open().unwrap().record(fact, at(hour)).unwrap();
    }
    drop(site.open().unwrap());
    assert_eq!(site.open().unwrap().next_connection(), 2);
}

#[test]
fn what_is_no_head_stops_the_ledger_and_is_named_with_what_to_do() {
    let site = Site::new();
    let file = KeptHead::path(&site.path());
    drop(site.written());
    let kept = fs::read_to_string(&file).unwrap();
    for wrong in [
        String::new(),
        kept.replace("entries", "lines"),
        kept.replacen(':', ":-", 1),
        kept.trim_end().replace("\"}", "0\"}"),
    ] {
        fs::write(&file, &wrong).unwrap();
        let refused = site.open().unwrap_err().to_string();
        assert!(
            refused.contains("egress.ledger.head is not the head of a ledger"),
            "{refused}"
        );
        assert!(refused.contains("remove this file to go on"), "{refused}");
    }
    fs::remove_file(&file).unwrap();
    drop(site.open().unwrap());
    assert_ne!(fs::read_to_string(&file).unwrap(), kept);
}
