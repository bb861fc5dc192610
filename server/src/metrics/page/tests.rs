use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use protocol::plan::Participants;

use super::super::counts::tests::{accepted, connected, counts};
use super::*;
use crate::network::Network;
use crate::observer::RunEvent;

fn text(counts: &Counts, now: Instant) -> String {
    let process = Process {
        resident_bytes: Some(4096.0),
        started: Some(12.5),
    };
    let named = counts.facts.named.clone();
    let costs = Network::new(&Participants::Named(named)).costs();
    of(counts, (&Histogram::new(&[0.5]), &costs), process, now)
}

/// The families of a page by name, in their order.
fn families(page: &str) -> Vec<&str> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn a_fresh_page_has_every_reason_with_nothing_counted() {
    let now = Instant::now();
    let page = text(&counts(&["north", "south"], now), now);
    for line in [
        "foedus_run_phase{phase=\"joining\"} 1",
        "foedus_run_phase{phase=\"open\"} 0",
        "foedus_run_failed{reason=\"quorum-not-met\"} 0",
        "foedus_participant_joined{participant=\"south\"} 0",
        "foedus_updates_accepted_total{participant=\"north\"} 0",
        "foedus_updates_refused_total{reason=\"not-finite\"} 0",
        "foedus_connections_closed_total{reason=\"flooding\"} 0",
        "foedus_handshakes_rejected_total{reason=\"expired\"} 0",
        "foedus_certificate_expiry_timestamp_seconds 1000",
        "foedus_revocations_due_timestamp_seconds 500",
        "foedus_round_seconds_bucket{le=\"+Inf\"} 0",
        "foedus_journal_commit_seconds_count 0",
        "foedus_datagrams_sent_bytes_total 0",
        "foedus_participant_packets_lost_total{participant=\"north\"} 0",
        "process_resident_memory_bytes 4096",
        "process_start_time_seconds 12.5",
    ] {
        assert!(
            page.lines().any(|found| found == line),
            "no {line} in\n{page}"
        );
    }
    let of = |family: &str| {
        page.lines()
            .filter(|line| line.starts_with(&format!("{family}{{")))
            .count()
    };
    assert_eq!(
        of("foedus_updates_refused_total"),
        protocol::close::RefusalReason::ALL.len()
    );
    assert_eq!(
        of("foedus_connections_closed_total"),
        protocol::close::CloseCode::ALL.len()
    );
    assert_eq!(of("foedus_run_failed"), RunFailure::ALL.len());
}

#[test]
fn files_that_cannot_be_used_are_shown_until_they_can() {
    let now = Instant::now();
    let mut counts = counts(&["north"], now);
    let reason = "cannot read crl.pem".to_owned();
    let kept = RunEvent::IdentityKept { reason };
    let reloaded = RunEvent::IdentityReloaded {
        serial: "01".to_owned(),
        expires: UNIX_EPOCH,
        revocations_due: None,
    };
    for (event, shown) in [(&kept, 1), (&kept, 1), (&reloaded, 0)] {
        counts.take(event, now);
        let line = format!("foedus_identity_files_unusable {shown}");
        let page = text(&counts, now);
        assert!(page.lines().any(|found| found == line), "{page}");
    }
}

#[test]
fn a_stranger_makes_no_line_of_its_own() {
    let now = Instant::now();
    for named in [&["north"][..], &[]] {
        let mut counts = counts(named, now);
        for event in [
            connected("mallory", 8),
            accepted("mallory", 1),
            connected("north", 9),
        ] {
            counts.take(&event, now);
        }
        let page = text(&counts, now);
        assert!(!page.contains("mallory"), "{page}");
        let expiry = if named.is_empty() {
            "foedus_participant_certificate_expiry_timestamp_seconds 8"
        } else {
            "foedus_participant_certificate_expiry_timestamp_seconds{participant=\"north\"} 9"
        };
        assert!(page.lines().any(|line| line == expiry), "{page}");
        assert!(
            page.lines()
                .any(|line| line == "foedus_participants_connected 2"),
            "{page}"
        );
    }
}

#[test]
fn names_follow_prometheuss_conventions_and_none_is_twice() {
    let now = Instant::now();
    let page = text(&counts(&["north"], now), now);
    let mut seen = BTreeSet::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(seen.insert(name), "{name} is there twice");
        assert!(
            name.starts_with("foedus_") || name.starts_with("process_"),
            "{name}"
        );
        assert_eq!(
            name.ends_with("_total"),
            kind == "counter",
            "{name} is a {kind}"
        );
    }
    assert!(30 < seen.len());
}

#[test]
fn the_operators_page_and_the_alerts_name_metrics_that_exist_and_the_page_names_all() {
    let now = Instant::now();
    let page = text(&counts(&["north"], now), now);
    let shown: BTreeSet<&str> = families(&page).into_iter().collect();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let named = |file: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(repository.join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let words =
            words.filter(|word| word.starts_with("foedus_") || word.starts_with("process_"));
        let parts = ["_bucket", "_sum", "_count"];
        let family = |word: &str| {
            let whole = parts.iter().find_map(|part| word.strip_suffix(part));
            whole
                .filter(|whole| shown.contains(whole))
                .unwrap_or(word)
                .to_owned()
        };
        words.map(family).collect()
    };
    for file in ["docs/monitoring.md", "deploy/prometheus/alerts.yml"] {
        for name in named(file) {
            assert!(
                shown.contains(name.as_str()),
                "{file} names {name}, which is not shown"
            );
        }
    }
    let documented = named("docs/monitoring.md");
    for name in &shown {
        assert!(
            documented.contains(*name),
            "docs/monitoring.md says nothing of {name}"
        );
    }
}

#[test]
fn the_alerts_about_a_server_that_is_gone_look_at_the_job_that_is_scraped() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = |file| fs::read_to_string(repository.join("deploy/prometheus").join(file)).unwrap();
    let (alerts, scrape) = (text("alerts.yml"), text("scrape.yml"));
    let named = |text: &str, before| -> Vec<String> {
        let parts = text.split(before).skip(1);
        let ends = |c: char| c == '"' || c == '\n';
        parts
            .filter_map(|part| Some(part.split(ends).next()?.to_owned()))
            .collect()
    };
    assert_eq!(named(&scrape, "job_name: "), ["foedus"]);
    assert_eq!(named(&alerts, "job=\""), ["foedus", "foedus"]);
}
