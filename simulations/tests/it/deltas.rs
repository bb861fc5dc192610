//! The bench of the exchange with deltas: their size is that of real ones, and the result is still the closed form's.

use simulations::bench::{Figures, Processes, Scenario, run};
use simulations::experiment::{Download, Sums, Transfer};

fn exchange(transfer: Transfer, download: Download) -> Figures {
    let scenario = Scenario {
        participants: std::num::NonZeroU32::new(3).unwrap(),
        megabytes: 4.0,
        tensors: 8,
        rounds: 3,
        transfer,
        download,
        sums: Sums::Values,
    };
    let folder = tempfile::tempdir().unwrap();
    let figures = run(scenario, folder.path(), Processes::One).unwrap();
    println!("{}", figures.in_words());
    assert!(figures.correct, "{}", figures.relative_error);
    figures
}

#[test]
fn deltas_of_the_bench_are_as_large_as_real_ones_and_come_to_the_closed_form() {
    for (transfer, share) in [
        (Transfer::Bf16, 0.3..0.65),
        (Transfer::F32, 0.5..0.9),
        (Transfer::Int8, 0.3..0.65),
    ] {
        let delta = exchange(transfer, Download::Delta);
        assert_eq!(delta.download_mb.len(), 2);
        for megabytes in &delta.download_mb {
            let found = megabytes / delta.whole_mb;
            assert!(share.contains(&found), "{transfer:?}: {found}");
        }
        assert!(delta.in_words().contains("MB whole ("));
    }
    let whole = exchange(Transfer::Bf16, Download::Whole);
    assert_eq!(whole.download_mb, [whole.whole_mb; 2]);
    assert!(!whole.in_words().contains("a delta"));
}
