//! The exchange benchmark as it is run: one process a party, and its figures as a line of JSON that a script can read.

use std::process::Command;

use serde_json::Value;

/// Runs a benchmark and gives its figures.
fn figures(arguments: &[&str]) -> Value {
    let mut program = Command::new(env!("CARGO_BIN_EXE_foedus-sim"));
    let run = program.arg("bench").args(arguments).arg("--json").output();
    let run = run.expect("the simulator starts");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let answer = String::from_utf8(run.stdout).expect("it answers in text");
    assert_eq!(answer.lines().count(), 1, "{answer}");
    serde_json::from_str(&answer).expect("it answers in JSON")
}

fn number(figures: &Value, key: &str) -> f64 {
    let number = figures[key].as_f64();
    number.unwrap_or_else(|| panic!("{key} is no number in {figures}"))
}

#[test]
fn an_exchange_between_processes_is_right_and_says_what_it_took() {
    for (transfer, error_max) in [("f32", 1e-5), ("bf16", 1e-2)] {
        let scenario = [
            "--participants",
            "2",
            "--megabytes",
            "1",
            "--tensors",
            "4",
            "--rounds",
            "3",
        ];
        let figures = figures(&[&["exchange"], &scenario[..], &["--transfer", transfer]].concat());
        assert_eq!(figures["processes"], "one_per_party", "{figures}");
        assert_eq!(figures["correct"], true, "{figures}");
        assert!(number(&figures, "relative_error") < error_max, "{figures}");
        for key in [
            "s_per_round_median",
            "cpu_s_per_round",
            "server_peak_rss_mb",
            "sum_peak_rss_mb",
        ] {
            assert!(0.0 < number(&figures, key), "{key} in {figures}");
        }
        let all = number(&figures, "sum_peak_rss_mb");
        assert!(
            number(&figures, "server_peak_rss_mb") < all,
            "three processes: {figures}"
        );
    }
}

#[test]
fn empty_rounds_are_counted_without_the_first() {
    let figures = figures(&["rounds", "--participants", "3", "--rounds", "5"]);
    assert_eq!(figures["correct"], true, "{figures}");
    assert_eq!(number(&figures, "rounds"), 5.0);
    let (median, most) = (
        number(&figures, "s_per_round_median"),
        number(&figures, "s_per_round_max"),
    );
    assert!(0.0 < median && median <= most, "{figures}");
}
