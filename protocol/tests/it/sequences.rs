//! Sequences of operations on a whole federation under virtual time, generated and, if one fails, shrunk to its core.
//!
//! Each operation is a fault or the passing of time; what must never happen is checked where it would (see
//! [`pair`](super::pair)), and what must hold at the end as for the seeded runs. A sequence that failed becomes a literal
//! case below.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use protocol::plan::{Download, LatePolicy};

use super::pair::{Pair, Weather, plan};
use super::seeded;

/// The last one is not there at the beginning.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const THERE: usize = 4;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// So many milliseconds pass.
    Wait(u64),
    /// A participant's connection breaks.
    Cut(usize),
    /// A participant's process dies and is started again.
    Restart(usize),
    /// A participant's process dies for good.
    Kill(usize),
    /// A participant leaves and says so.
    Leave(usize),
    /// A participant's disk is full: nothing that it was writing is kept, and its process is started again.
    SiteDiskFull(usize),
    /// A participant of the plan comes that was not there before.
    Join,
    /// A participant's last delivery arrives once more.
    Duplicate(usize),
    /// The next deliveries arrive with other bytes, or break off half-way, in so many of a thousand cases.
    Corrupt(u64),
    /// Messages take up to so many milliseconds, and so come in another order.
    Delay(u64),
    /// The server's process dies and is started again.
    Crash,
    /// The server cannot write, stops and is started again.
    DiskFull,
    /// All clocks jump ahead by so many seconds.
    Jump(u64),
}

/// The cohort's rules of one sequence.
#[derive(Clone, Copy, Debug)]
struct Rules {
    quorum: u32,
    select: Option<u32>,
    enough: Option<u32>,
    late_rounds_max: Option<u32>,
    download: Download,
    /// Whether the plan names one more, who is not there at the beginning.
    one_joins: bool,
}

fn op() -> impl Strategy<Value = Op> {
    let site = 0..THERE;
    prop_oneof![
        6 => (1..5000_u64).prop_map(Op::Wait),
        2 => site.clone().prop_map(Op::Cut),
        2 => site.clone().prop_map(Op::Restart),
        1 => site.clone().prop_map(Op::Kill),
        1 => site.clone().prop_map(Op::Leave),
        1 => site.clone().prop_map(Op::SiteDiskFull),
        1 => Just(Op::Join),
        2 => site.prop_map(Op::Duplicate),
        1 => (0..500_u64).prop_map(Op::Corrupt),
        1 => (1..3000_u64).prop_map(Op::Delay),
        2 => Just(Op::Crash),
        1 => Just(Op::DiskFull),
        1 => (1..200_u64).prop_map(Op::Jump),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let some = || proptest::option::of(1..=4_u32);
    let download = prop_oneof![Just(Download::Whole), Just(Download::Delta)];
    let late = proptest::option::of(1..=2_u32);
    let joins = any::<bool>();
    (1..=3_u32, some(), some(), late, download, joins).prop_map(
        |(quorum, select, enough, late_rounds_max, download, one_joins)| {
            let select = select.map(|select| select.max(quorum));
            let most = select.unwrap_or(u32::MAX);
            Rules {
                quorum,
                select,
                enough: enough.map(|enough| enough.max(quorum).min(most)),
                late_rounds_max,
                download,
                one_joins,
            }
        },
    )
}

/// Plays a sequence to the end of its run.
fn play(rules: Rules, ops: &[Op]) {
    let names = if rules.one_joins {
        &NAMES[..]
    } else {
        &NAMES[..THERE]
    };
    let mut plan = plan(names, rules.quorum, 3);
    plan.cohort.select = rules.select;
    plan.cohort.enough = rules.enough;
    plan.download = rules.download;
    if let Some(rounds_max) = rules.late_rounds_max {
        plan.cohort.late = LatePolicy::LaterRound { rounds_max };
    }
    let weather = Weather {
        spool: true,
        disk_ms: (0, 1500),
        train_ms: (500, 8000),
        bulk_ms: (10, 2000),
        fold_ms: (1, 800),
        ..Weather::fair()
    };
    let mut pair = Pair::new(plan, weather, 1);
    if rules.one_joins {
        pair.kill(THERE);
    }
    for &op in ops {
        if pair.server.outcome.is_some() {
            break;
        }
        perform(&mut pair, op);
    }
    // Whatever was, the weather is fair from here on.
    pair.weather.corrupt = 0;
    assert!(pair.drive_bounded(50_000), "the run does not end");
    seeded::check(&pair, "sequence");
}

fn perform(pair: &mut Pair, op: Op) {
    match op {
        Op::Wait(time) => pair.wait(Duration::from_millis(time)),
        Op::Cut(site) => pair.cut(site),
        Op::Restart(site) => {
            pair.cut(site);
            pair.restart(site);
        }
        Op::Kill(site) => pair.kill(site),
        Op::Leave(site) => pair.leave(site),
        Op::SiteDiskFull(site) => pair.site_disk_full(site),
        Op::Join => {
            if pair
                .sites
                .get(THERE)
                .is_some_and(|site| site.connection.is_none())
            {
                pair.restart(THERE);
            }
        }
        Op::Duplicate(site) => {
            if let (Some(_), Some(&header)) = (
                pair.sites[site].connection,
                pair.sites[site].delivered.last(),
            ) {
                pair.pour(site, header);
            }
        }
        Op::Corrupt(chance) => {
            pair.weather.corrupt = chance;
            pair.weather.cut_bulk = chance;
        }
        Op::Delay(most) => pair.weather.latency_ms = (1, most),
        Op::Crash => {
            if pair.server.outcome.is_none() {
                pair.crash();
            }
        }
        Op::DiskFull => pair.disk_full(),
        Op::Jump(seconds) => pair.jump(Duration::from_secs(seconds)),
    }
}

#[test]
fn any_sequence_of_faults_ends_with_what_was_counted_and_nothing_else() {
    let config = Config {
        cases: 10_000,
        failure_persistence: None,
        ..Config::default()
    };
    // The same sequences on every machine.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let sequences = (rules(), proptest::collection::vec(op(), 0..40));
    TestRunner::new_with_rng(config, rng)
        .run(&sequences, |(rules, ops)| {
            play(rules, &ops);
            Ok(())
        })
        .unwrap();
}

/// Sequences that failed once.
#[test]
fn found_sequences_stay_repaired() {
    for (rules, ops) in REGRESSIONS {
        play(*rules, ops);
    }
}

const REGRESSIONS: &[(Rules, &[Op])] = &[
    // A late update that was refused while its round was aggregated was refused for the next round, and only in memory.
    (
        Rules {
            quorum: 1,
            select: None,
            enough: None,
            late_rounds_max: Some(1),
            download: Download::Whole,
            one_joins: false,
        },
        &[
            Op::Restart(2),
            Op::Restart(3),
            Op::Corrupt(199),
            Op::Restart(0),
            Op::Wait(2744),
            Op::Kill(1),
            Op::Restart(1),
            Op::Crash,
            Op::Wait(3954),
            Op::Duplicate(2),
            Op::Wait(4812),
            Op::Crash,
            Op::Wait(2298),
            Op::Restart(3),
            Op::Restart(1),
            Op::Wait(3348),
            Op::Wait(1494),
            Op::Restart(2),
            Op::Jump(26),
            Op::Wait(381),
            Op::Crash,
        ],
    ),
    // The final adapter overtook the request for the last round, and was taken for another adapter of that round.
    (
        Rules {
            quorum: 1,
            select: None,
            enough: None,
            late_rounds_max: None,
            download: Download::Whole,
            one_joins: false,
        },
        &[
            Op::Kill(3),
            Op::Wait(60),
            Op::Cut(0),
            Op::Kill(2),
            Op::Wait(417),
            Op::Crash,
            Op::Wait(362),
            Op::Restart(1),
            Op::Restart(2),
            Op::Crash,
            Op::Wait(312),
            Op::Kill(0),
            Op::Wait(990),
            Op::Restart(0),
            Op::Wait(60),
            Op::Crash,
            Op::Wait(411),
            Op::Restart(0),
            Op::Delay(2950),
            Op::Crash,
            Op::Wait(2635),
            Op::Corrupt(339),
            Op::Crash,
        ],
    ),
];
