//! Hostile participants with good certificates, all at once: the honest ones' adapter is the same byte for byte, and
//! each of the hostile is named with its reason, in the log, in `rounds.jsonl` and to itself, and counted in the metrics.
//!
//! The cases hold what ends or poisons a run of other systems: values that are not finite, another layout, weights of
//! nothing and of everything, replays, and participants that are slow, silent, or too many.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod mallory;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use protocol::close::CloseCode;
use protocol::frame::encode_frame;
use protocol::message::{ToClient, ToServer, TransferHeader};
use protocol::{Digest, Round};
use tests::{Federation, assert_success};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use self::mallory::{Heard, Mallory, reset};
use crate::{PROGRAMS, monitoring};

/// For how long a participant may make no progress.
const STALL_LIMIT: Duration = Duration::from_secs(4);
/// Optimizer steps in a round.
const STEPS: u32 = 4;

const HONEST: [&str; 2] = ["hospital-a", "bank-b"];
/// Delivers a good update in each round, and in the hostile run another one after it.
const EAGER: &str = "eager";

/// Each hostile participant and what it must be told.
const HOSTILE: [(&str, &str); 23] = [
    ("nan", "not-finite"),
    ("infinite", "not-finite"),
    ("one-short", "wrong-size"),
    ("tensor-less", "wrong-size"),
    ("over-norm", "over-norm"),
    ("weightless", "zero-weight"),
    ("heavy", "over-weight"),
    ("negative", "over-weight"),
    ("replay", "late"),
    ("ahead", "wrong-round"),
    ("other-plan", "wrong-plan"),
    ("other-bytes", "wrong-digest"),
    ("unasked", "wrong-transfer"),
    ("thief", "bad-transfer"),
    ("hoarder", "over-allowance"),
    ("leech", "over-allowance"),
    ("hesitant", "broken-off"),
    ("garbage", "malformed"),
    ("oversize", "malformed"),
    ("flood", "flooding"),
    ("revolving", "too-often"),
    ("silent", "stalled"),
    ("trickle", "stalled"),
];

const FIRST: Round = Round::FIRST;

/// Misbehaves in its way and gives what it is told for it.
async fn misbehave(folder: &Path, name: &str, address: &str) -> &'static str {
    let mut mallory = Mallory::join(folder, name, address).await;
    mallory.asked().await;
    let good = mallory.update(0.001);
    match name {
        "nan" => deliver(&mut mallory, f32::NAN, 1).await,
        "infinite" => deliver(&mut mallory, f32::NEG_INFINITY, 1).await,
        "over-norm" => deliver(&mut mallory, 1000.0, 1).await,
        "one-short" => offer(&mut mallory, &good[2..], 1).await,
        "tensor-less" => offer(&mut mallory, &good[..good.len() / 2], 1).await,
        "weightless" => offer(&mut mallory, &good, 0).await,
        "heavy" => offer(&mut mallory, &good, 1_000_000_000_000).await,
        "negative" => offer(&mut mallory, &good, (-4_i64).cast_unsigned()).await,
        "replay" => {
            offer(&mut mallory, &good, 0).await;
            while mallory.asked().await != Round(2) {}
            offer(&mut mallory, &good, 1).await;
        }
        "ahead" => {
            let header = mallory.header(Round(9), &good);
            mallory.offer(header, 1).await;
        }
        "other-plan" => {
            let content = mallory.header(FIRST, &good).content();
            let header = TransferHeader::update(&mallory.name, FIRST, Digest([9; 32]), content);
            mallory.offer(header, 1).await;
        }
        "other-bytes" => {
            let (header, other) = (mallory.header(FIRST, &good), mallory.update(-1.0));
            mallory.offer(header, 1).await;
            mallory.is_wanted().await;
            mallory.send(&header, &other).await;
        }
        "unasked" => {
            let header = mallory.header(FIRST, &good);
            mallory.send(&header, &good).await;
        }
        "thief" => {
            let (victim, own) = ("hospital-a".parse().unwrap(), mallory.header(FIRST, &good));
            let stolen = TransferHeader::update(&victim, FIRST, own.plan, own.content());
            mallory.offer(stolen, 1).await;
        }
        "hoarder" => {
            for number in 0..5_u8 {
                let update = mallory.update(f32::from(number));
                offer(&mut mallory, &update, 1).await;
            }
        }
        "hesitant" => break_off(&mut mallory, &good).await,
        _ => disturb(&mut mallory, name, &good).await,
    }
    match name {
        "revolving" => revolve(&mallory).await,
        "leech" => fetch(folder, name, address).await,
        _ => mallory.verdict().await,
    }
}

/// Misbehaves on the connection rather than by an update.
async fn disturb(mallory: &mut Mallory, name: &str, good: &[u8]) {
    match name {
        "garbage" => mallory.write(&encode_frame(&[0xff; 60_000]).unwrap()).await,
        "oversize" => mallory.write(&u32::MAX.to_le_bytes()).await,
        "flood" => {
            let (round, step, steps) = (FIRST, 0, 4);
            for _ in 0..2000 {
                mallory
                    .say(&ToServer::Progress { round, step, steps })
                    .await;
            }
        }
        "silent" => {
            // It also takes all the streams there are and says nothing on any.
            while let Ok(stream) =
                tokio::time::timeout(Duration::from_millis(50), mallory.connection.open_uni()).await
            {
                let mut stream = stream.unwrap();
                stream.write_all(&[200]).await.unwrap();
                tokio::spawn(async move { stream.stopped().await });
            }
        }
        "trickle" => {
            let header = mallory.header(FIRST, good);
            mallory.offer(header, 1).await;
            mallory.is_wanted().await;
            let mut stream = mallory.begin(&header, &good[..1]).await;
            let rest = good[1..].to_vec();
            tokio::spawn(async move {
                for byte in rest {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
            });
        }
        "revolving" | "leech" => {}
        other => panic!("{other} does nothing"),
    }
}

async fn deliver(mallory: &mut Mallory, value: f32, weight: u64) {
    let update = mallory.update(value);
    mallory.deliver(FIRST, &update, weight).await;
}

async fn offer(mallory: &mut Mallory, update: &[u8], weight: u64) {
    let header = mallory.header(FIRST, update);
    mallory.offer(header, weight).await;
}

/// Begins an update again and again and lets go of it half-way.
async fn break_off(mallory: &mut Mallory, good: &[u8]) {
    let header = mallory.header(FIRST, good);
    mallory.offer(header, 1).await;
    for time in 1..=4 {
        let from = mallory.is_wanted().await;
        let start = usize::try_from(from).unwrap();
        let stream = mallory.begin(&header.at(from), &good[start..=start]).await;
        // In turn as an error, and as an end that is none.
        if time % 2 == 0 {
            reset(stream);
        } else {
            let mut stream = stream;
            stream.finish().unwrap();
        }
    }
}

/// Connects until it is told to stop that.
async fn revolve(mallory: &Mallory) -> &'static str {
    for _ in 0..200 {
        let mut next = mallory.again().await;
        let turned_away = tokio::time::timeout(Duration::from_millis(20), next.hear()).await;
        if let Ok(Heard::Closed(code)) = turned_away {
            assert_eq!(code, CloseCode::TooOften);
            return code.label();
        }
    }
    panic!("{} may connect as often as it likes", mallory.name);
}

/// Comes again and again with nothing, and takes the adapter each time.
async fn fetch(folder: &Path, name: &str, address: &str) -> &'static str {
    for _ in 0..20 {
        let mut next = Mallory::join(folder, name, address).await;
        match next.hear().await {
            Heard::Message(ToClient::Train { .. }) => next.take().await,
            Heard::Message(ToClient::Refused { reason, .. }) => return reason.label(),
            other => panic!("{name}: {other:?}"),
        }
    }
    panic!("{name} may take the adapter as often as it likes");
}

/// Takes part well, and if there are hostile ones offers another update after each that was counted; gives the page of
/// the server's metrics once all of them were told. The last round waits for that.
async fn take_part(
    folder: &Path,
    at: &Addresses,
    told: watch::Receiver<usize>,
    hostile: usize,
) -> String {
    let mut eager = Mallory::join(folder, EAGER, &at.server).await;
    let mut page = String::new();
    for number in 1..=2 {
        let round = eager.asked().await;
        assert_eq!(round, Round(number));
        if number == 2 {
            train_until(&mut eager, told.clone(), hostile).await;
            let metrics = at.metrics.clone();
            let read = spawn_blocking(move || {
                // The server's loop answers this, once what it has told is counted.
                monitoring::get(&metrics, "/healthz");
                monitoring::get(&metrics, "/metrics")
            });
            page = read.await.unwrap();
        }
        let update = eager.update(0.001);
        eager.deliver(round, &update, 7).await;
        if 0 < hostile {
            while !matches!(
                eager.hear().await,
                Heard::Message(ToClient::Accepted { .. })
            ) {}
            let again = eager.update(0.5);
            let another = eager.header(round, &again);
            eager.offer(another, 7).await;
        }
    }
    while !matches!(eager.hear().await, Heard::Closed(_)) {}
    page
}

/// Makes a step now and then, so that it does not count as stalled, until all of the hostile have been told.
async fn train_until(eager: &mut Mallory, mut told: watch::Receiver<usize>, hostile: usize) {
    let (round, steps) = (Round(2), STEPS);
    for step in 1..=steps {
        let all = told.wait_for(|told| *told == hostile);
        if tokio::time::timeout(STALL_LIMIT / 2, all).await.is_ok() {
            return;
        }
        eager.say(&ToServer::Progress { round, step, steps }).await;
    }
    panic!(
        "only {} of {hostile} hostile participants were told",
        *told.borrow()
    );
}

/// Where the server is.
#[derive(Clone)]
struct Addresses {
    server: String,
    metrics: String,
}

/// What is left of a run.
struct Left {
    adapter: Vec<u8>,
    log: String,
    rounds: Vec<serde_json::Value>,
    metrics: String,
}

/// A run of the honest and the eager, with these beside them.
fn run(hostile: &[(&'static str, &'static str)]) -> Left {
    let names: Vec<&str> = HOSTILE.iter().map(|(name, _)| *name).collect();
    let named = [&HONEST[..], &[EAGER], &names].concat();
    let beside: Vec<&str> = hostile.iter().map(|(name, _)| *name).collect();
    let enrolled = [&HONEST[..], &[EAGER], &beside].concat();
    let federation = Federation::create(PROGRAMS, &enrolled);
    let patience = if hostile.is_empty() { "1s" } else { "60s" };
    let settings = [
        format!("cohort.participants={named:?}"),
        format!("cohort.join_deadline={patience}"),
        format!("cohort.stall_limit={}s", STALL_LIMIT.as_secs()),
        format!("training.local_steps={STEPS}"),
        "metrics.listen=127.0.0.1:0".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let (server, address) = federation.start_server(3, &settings);
    let clients = HONEST.map(|name| federation.start_client(name, &address));
    let at = Addresses {
        metrics: monitoring::address(&server),
        server: address,
    };
    let runtime = Runtime::new().unwrap();
    let folder = federation.path().to_owned();
    let metrics = runtime.block_on(async {
        let (told, all_told) = watch::channel(0);
        let mut party = JoinSet::new();
        for &(name, expected) in hostile {
            let (folder, at, told) = (folder.clone(), at.clone(), told.clone());
            party.spawn(async move {
                let heard = misbehave(&folder, name, &at.server).await;
                assert_eq!(heard, expected, "{name}");
                told.send_modify(|told| *told += 1);
                String::new()
            });
        }
        let count = hostile.len();
        party.spawn(async move { take_part(&folder, &at, all_told, count).await });
        let mut pages = String::new();
        while let Some(ended) = party.join_next().await {
            pages += &ended.unwrap();
        }
        pages
    });
    for client in clients {
        assert_success(&client.finish());
    }
    let finished = server.finish();
    assert_success(&finished);
    let adapter = fs::read(federation.file("runs/trial/adapter/adapter_model.safetensors"));
    Left {
        adapter: adapter.unwrap(),
        log: finished.text,
        rounds: federation.json_lines("runs/trial/rounds.jsonl"),
        metrics,
    }
}

#[test]
fn twenty_three_hostile_participants_change_nothing_and_each_is_named() {
    let calm = run(&[]);
    let Left {
        adapter,
        log,
        rounds,
        metrics,
    } = run(&HOSTILE);
    for round in calm.rounds.iter().chain(&rounds) {
        let counted = round["participants"].as_array().unwrap().iter();
        let names: Vec<_> = counted.map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["bank-b", EAGER, "hospital-a"], "{round}");
    }
    assert!(
        adapter == calm.adapter,
        "the honest participants' adapter is another one than without the hostile"
    );
    let turned_away: BTreeSet<_> = rounds
        .iter()
        .flat_map(|round| round["turned_away"].as_array().unwrap())
        .map(|one| {
            (
                one["name"].as_str().unwrap(),
                one["reason"].as_str().unwrap(),
            )
        })
        .collect();
    let duplicate = [(EAGER, "duplicate")];
    for (name, reason) in HOSTILE.iter().chain(&duplicate) {
        assert!(
            turned_away.contains(&(*name, *reason)),
            "{name} with {reason} is not in {turned_away:?}"
        );
        let line = log
            .lines()
            .find(|line| line.contains(&format!("\"{name}\"")) && line.contains(reason));
        assert!(line.is_some(), "{name} with {reason} is not in the log");
    }
    let reasons: BTreeSet<&str> = HOSTILE.iter().map(|(_, reason)| *reason).collect();
    for reason in reasons {
        let with_it = HOSTILE.iter().filter(|(_, other)| *other == reason).count();
        let (harmed, found) = (with_it as f64, counted(&metrics, reason));
        assert!(
            harmed <= found,
            "{reason} is {found} times in metrics, not {harmed}"
        );
        assert_eq!(
            counted(&calm.metrics, reason),
            0.0,
            "{reason} without the hostile"
        );
    }
}

/// How often a reason was counted, for updates and for connections.
fn counted(page: &str, reason: &str) -> f64 {
    let families = [
        "foedus_updates_refused_total",
        "foedus_connections_closed_total",
    ];
    let samples = families.map(|family| format!("{family}{{reason=\"{reason}\"}} "));
    let value = |sample: &String| {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(sample.as_str()));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    samples.iter().map(value).sum()
}
