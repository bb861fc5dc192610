//! What leaves a site, counted on the wire and in its ledger, and what its policy keeps from leaving.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use jiff::Timestamp;
use protocol::{
    Digest,
    message::ToServer,
    quic::{Limits, listen},
};
use tokio::{net::UdpSocket, task::JoinHandle};

use super::*;
use crate::{
    SitePolicy,
    federate::{egress::Egress, happening::Attempt, session::dial_in_turn},
    ledger::{Fact, Totals, Verified, verify},
    policy::Circumstances,
};

/// A stretch of the wire between a client and the server, on which somebody counts what the client sends.
struct Relay {
    address: SocketAddr,
    sent: Arc<Counts>,
    carrying: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let (near, far) = (socket(), socket());
        far.connect(server).await.unwrap();
        let (address, sent) = (near.local_addr().unwrap(), Arc::new(Counts::default()));
        let counts = Arc::clone(&sent);
        let carrying = tokio::spawn(async move {
            let (mut up, mut down) = ([0; 65536], [0; 65536]);
            let mut client = None;
            loop {
                tokio::select! {
                    Ok((bytes, from)) = near.recv_from(&mut up) => {
                        counts.datagrams.fetch_add(1, Ordering::SeqCst);
                        counts.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
                        client = Some(from);
                        // A server that is gone refuses; the client finds out by itself.
                        let _ = far.send(&up[..bytes]).await;
                    }
                    Ok(bytes) = far.recv(&mut down) => {
                        let client = client.expect("nobody speaks before the client");
                        near.send_to(&down[..bytes], client).await.unwrap();
                    }
                }
            }
        });
        Self {
            address,
            sent,
            carrying,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// A socket with room for bursts: a datagram that the counter's own kernel drops would be missed by it.
fn socket() -> UdpSocket {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let room = 8 << 20;
    socket2::SockRef::from(&socket)
        .set_recv_buffer_size(room)
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    UdpSocket::from_std(socket).unwrap()
}

fn ledger_in(world: &World) -> PathBuf {
    world.folder.path().join("egress.ledger")
}

fn verified(world: &World) -> Verified {
    let key = tls(world.certificates.participant("north").unwrap()).public_key();
    let bytes = std::fs::read(ledger_in(world)).unwrap();
    verify(&bytes, &[Digest(key)].into(), None).unwrap()
}

fn messages(totals: &Totals) -> Vec<(&str, u64)> {
    let named = totals.messages().iter();
    named
        .map(|(name, sum)| (name.as_str(), sum.count))
        .collect()
}

/// A policy that allows the tests' plan, with some of its words replaced.
fn policy(changes: &[(&str, &str)]) -> Arc<SitePolicy> {
    let mut text = format!(
        "[server]\ntell_violations = true\n[model]\nbases = [\"{}\"]\ntarget_modules = [\"q_proj\", \"v_proj\"]\nrank_max = 16\n\
         [training]\nrounds_max = 2\nlocal_steps_max = 3\n[cohort]\nmin = 1\n\
         [egress]\nround_max = \"1GiB\"\nday_max = \"1GiB\"\nmetrics = [\"weight\"]\n[secure_aggregation]\nrequired = false\n",
        Digest(base().fingerprint)
    );
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    Arc::new(SitePolicy::parse(&text, Path::new("policy.toml")).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_and_a_counter_on_the_wire_agree_to_the_byte() {
    let mut world = World::new();
    world.participants = 1;
    let server = Server::bind(world.server()).unwrap();
    let relay = Relay::to(server.address()).await;
    let mut settings = Settings::new(
        relay.address.to_string(),
        tls(world.certificates.participant("north").unwrap()),
    );
    settings.ledger = Some(ledger_in(&world));
    let serving =
        tokio::spawn(server.run(Arc::new(|_: &server::RunEvent| {}), std::future::pending()));
    let outcome = taking_part(settings).await.unwrap();
    serving.await.unwrap().unwrap();

    let verified = verified(&world);
    let totals = &verified.reading.totals;
    let (datagrams, counts) = (totals.datagrams(), &relay.sent);
    assert_eq!(datagrams.bytes, counts.bytes.load(Ordering::SeqCst));
    assert_eq!(datagrams.count, counts.datagrams.load(Ordering::SeqCst));
    assert!(totals.open_connections().is_empty() && totals.uncounted_connections() == 0);

    // The greeting, each message, and each update with its header: nothing else was handed to a stream.
    assert_eq!(totals.greetings().bytes, 8);
    let expected = [
        ("Hello", 1),
        ("Offer", 2),
        ("Progress", 6),
        ("Ready", 1),
        ("Received", 3),
    ];
    assert_eq!(messages(totals), expected);
    let updates = verified
        .reading
        .entries
        .iter()
        .filter_map(|entry| match &entry.fact {
            Fact::Transfer {
                round, from, to, ..
            } => Some((*round, *from, *to)),
            _ => None,
        });
    let bytes = outcome.plan.encoded_bytes();
    assert_eq!(updates.collect::<Vec<_>>(), [(1, 0, bytes), (2, 0, bytes)]);
    let by_purpose = totals.messages().values().map(|sum| sum.bytes).sum::<u64>()
        + totals.transfers().bytes
        + totals.greetings().bytes;
    assert_eq!(totals.stream_bytes(), by_purpose);
    let added = datagrams.bytes - totals.stream_bytes();
    assert!(added > 1200, "a handshake alone takes more: {added}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_connections_are_counted_too() {
    let world = World::new();
    let server = Server::bind(world.server()).unwrap();
    let relay = Relay::to(server.address()).await;
    let strangers = Federation::create("treaty", &["north"]).unwrap();
    let material = tls(strangers.participant("north").unwrap());
    let key = Digest(material.public_key());
    let mut settings = Settings::new(relay.address.to_string(), material);
    settings.ledger = Some(ledger_in(&world));
    let serving =
        tokio::spawn(server.run(Arc::new(|_: &server::RunEvent| {}), std::future::pending()));
    taking_part(settings).await.unwrap_err();
    serving.abort();
    let bytes = std::fs::read(ledger_in(&world)).unwrap();
    let verified = verify(&bytes, &[key].into(), None).unwrap();
    let datagrams = verified.reading.totals.datagrams();
    assert!(datagrams.count > 0);
    assert_eq!(datagrams.bytes, relay.sent.bytes.load(Ordering::SeqCst));
    assert_eq!(verified.reading.totals.open_connections(), [0; 0]);
}

#[tokio::test]
async fn each_address_that_is_dialed_has_its_greeting_in_the_ledger() {
    let world = World::new();
    let mut settings = Settings::new(
        "hub:4433".to_owned(),
        tls(world.certificates.participant("north").unwrap()),
    );
    settings.ledger = Some(ledger_in(&world));
    settings.limits.handshake_timeout = Duration::from_millis(300);
    let silent = socket();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let server = tls(world.certificates.server());
    let mut listener = listen(anywhere, &server, &Limits::default()).unwrap();
    let addresses = [silent.local_addr().unwrap(), listener.local_address()];
    let serving = tokio::spawn(async move { while listener.accept().await.is_some() {} });
    let (happenings, mut told) = unbounded_channel();
    let mut egress = Egress::open(&settings).unwrap();
    let (attempt, dialing) = (Attempt(1), settings.clone());
    let dial = |meter| {
        tokio::spawn(async move {
            // A slower machine may need longer for a handshake that is answered.
            let dialed = dial_in_turn(&addresses, &dialing, &meter, (attempt, &happenings)).await;
            assert!(dialed.is_some());
        })
    };
    egress.dial(&settings.server, dial).unwrap();
    let Some(Happening::Redialing {
        address, written, ..
    }) = told.recv().await
    else {
        panic!("the second address was dialed and nobody was told");
    };
    assert_eq!(address, addresses[1]);
    egress.dial_next(&address.to_string()).unwrap();
    written.send(()).unwrap();
    assert!(told.recv().await.is_none(), "both addresses were dialed");
    egress.rest(PATIENCE).await.unwrap();
    serving.abort();
    drop(egress);
    assert_eq!(verified(&world).reading.totals.greetings().count, 2);
}

/// Runs one participant under a policy; how it ended, how the server did, and whether it ever took a step.
async fn under(policy: Arc<SitePolicy>, world: &mut World) -> (ClientError, ServerError, u64) {
    world.participants = 1;
    let ledger = ledger_in(world);
    world.adjust = Arc::new(move |settings| {
        (settings.policy, settings.ledger) = (Some(Arc::clone(&policy)), Some(ledger.clone()));
    });
    let steps = Arc::new(AtomicU64::new(0));
    let taken = Arc::clone(&steps);
    world.observer = Arc::new(move |event: &Event| {
        if matches!(event, Event::Step { .. }) {
            taken.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (served, mut ends) = world.run(&[("north", text(&WORDS))]).await;
    let ended = ends.remove(0).unwrap_err();
    (ended, served.unwrap_err(), steps.load(Ordering::SeqCst))
}

fn refusals(world: &World) -> Vec<String> {
    let entries = verified(world).reading.entries;
    let reasons = entries.into_iter().filter_map(|entry| match entry.fact {
        Fact::Refused { reasons, .. } => Some(reasons),
        _ => None,
    });
    reasons.flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_outside_the_policy_is_refused_before_any_step_and_written_down() {
    let mut world = World::new();
    let strict = policy(&[
        ("rank_max = 16", "rank_max = 8"),
        ("local_steps_max = 3", "local_steps_max = 2"),
    ]);
    let (error, _, steps) = under(strict, &mut world).await;
    let ClientError::Policy(refusal) = &error else {
        panic!("{error}")
    };
    let lines: Vec<_> = refusal
        .violations()
        .iter()
        .map(|violation| (violation.key, violation.line))
        .collect();
    assert_eq!(
        lines,
        [("model.rank_max", 6), ("training.local_steps_max", 9)]
    );
    assert!(!error.is_temporary());
    assert_eq!(steps, 0);
    assert_eq!(refusals(&world), refusal.sentences());
    let totals = verified(&world).reading.totals;
    assert_eq!(messages(&totals), [("Decline", 1), ("Hello", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_with_another_certificate_is_told_nothing() {
    let mut world = World::new();
    let other = format!("[server]\ncertificate = \"{}\"", "0".repeat(64));
    world.participants = 1;
    let pinned = policy(&[("[server]", &other)]);
    let server = Server::bind(world.server()).unwrap();
    let mut settings = Settings::new(
        server.address().to_string(),
        tls(world.certificates.participant("north").unwrap()),
    );
    (settings.policy, settings.ledger) = (Some(pinned), Some(ledger_in(&world)));
    let serving =
        tokio::spawn(server.run(Arc::new(|_: &server::RunEvent| {}), std::future::pending()));
    let error = taking_part(settings).await.unwrap_err();
    serving.abort();
    assert!(
        error
            .to_string()
            .contains("policy.toml:2: server.certificate"),
        "{error}"
    );
    assert!(messages(&verified(&world).reading.totals).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn full_day_ends_the_run_before_the_round_that_would_exceed_it() {
    let mut world = World::new();
    // One update of f32 values fits into the day, two do not.
    let day = base()
        .adapter_layout(&LoraConfig::default())
        .unwrap()
        .parameters() as u64
        * 4
        * 3
        / 2;
    let (error, _, steps) = under(
        policy(&[("day_max = \"1GiB\"", &format!("day_max = \"{day}B\""))]),
        &mut world,
    )
    .await;
    assert!(error.to_string().contains("egress.day_max"), "{error}");
    assert!(error.is_temporary());
    assert_eq!(
        steps, 3,
        "the second round is refused before it is computed"
    );
    let totals = verified(&world).reading.totals;
    assert_eq!(totals.transfers().count, 1);
    assert!(totals.stream_bytes() < day);
    assert_eq!(refusals(&world).len(), 1);
}

/// Keys, shares and reports of progress: what a server can ask for again and again.
#[tokio::test]
async fn messages_count_against_the_day_and_the_round_as_updates_do() {
    let world = World::new();
    let server = Server::bind(world.server()).unwrap();
    let mut settings = Settings::new(
        "hub:4433".to_owned(),
        tls(world.certificates.participant("north").unwrap()),
    );
    let said = ToServer::Progress {
        round: Round(1),
        step: 1,
        steps: 3,
    };
    for key in ["round_max", "day_max"] {
        settings.ledger = Some(world.folder.path().join(key));
        let mut egress = Egress::open(&settings).unwrap();
        egress.about(server.plan(), &settings);
        let (from, to) = (format!("{key} = \"1GiB\""), format!("{key} = \"100B\""));
        let strict = policy(&[(&from, &to)]);
        let day = |egress: &Egress| egress.day_bytes(Timestamp::now());
        let mut times = 0;
        let refusal = loop {
            let circumstances = Circumstances {
                server_certificate: Digest([0; 32]),
                now: Timestamp::now(),
                day_bytes: day(&egress),
            };
            match egress.permit(&said, &strict, &circumstances) {
                Ok(()) => drop(egress.message(said.clone()).unwrap()),
                Err(refusal) => break refusal.to_string(),
            }
            times += 1;
        };
        assert!(refusal.contains(&format!("egress.{key}")), "{refusal}");
        assert!(0 < times && day(&egress) <= 100, "{times}");
    }
}

/// The day's end does not wait for a round's: what is said after it does not leave.
#[tokio::test]
async fn nothing_is_said_outside_the_policys_hours() {
    let world = World::new();
    let server = Server::bind(world.server()).unwrap();
    let mut settings = Settings::new(
        "hub:4433".to_owned(),
        tls(world.certificates.participant("north").unwrap()),
    );
    settings.ledger = Some(ledger_in(&world));
    let mut egress = Egress::open(&settings).unwrap();
    egress.about(server.plan(), &settings);
    let hours = "[secure_aggregation]\nrequired = false\n[hours]\ntime_zone = \"UTC\"\nopen = [\"wed 08:00-18:00\"]\n";
    let by_day = policy(&[("[secure_aggregation]\nrequired = false\n", hours)]);
    let said = ToServer::Progress {
        round: Round(1),
        step: 1,
        steps: 3,
    };
    let permit = |now: &str| {
        let circumstances = Circumstances {
            server_certificate: Digest([0; 32]),
            now: now.parse().unwrap(),
            day_bytes: 0,
        };
        egress.permit(&said, &by_day, &circumstances)
    };
    permit("2026-11-25T17:59:59Z").unwrap();
    let refusal = permit("2026-11-25T18:00:00Z").unwrap_err();
    assert!(refusal.to_string().contains("hours"), "{refusal}");
    assert!(refusal.is_temporary(), "the day begins again");
}
