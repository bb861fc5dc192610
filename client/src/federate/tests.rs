//! Whole runs in one process: the real server, real mutual TLS over loopback, tiny random models.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use aggregation::{Adapter, ewc::BoundAnchor, peft::Sidecar};
use certs::throwaway::{Federation, Material};
use finetune::{
    data::{Dataset, Record},
    device::{self, DeviceChoice},
    lora::LoraConfig,
    tiny,
    train::{AnchorPull, Trainer},
};
use protocol::{
    Round,
    close::RunFailure,
    participant::Patience,
    plan::{
        EwcPlace, ParticipantPrivacyPlan, Participants, PrivacyPlan, RingBits, RingPlan,
        SecureAggregationPlan, ServerTrust, TrainingPlan, ValueEncoding,
    },
    quic::{Limits, Link, Listener, TlsMaterial, connect, listen},
};
use server::{EwcSettings, RunOutcome, Server, ServerError};
use tempfile::TempDir;

mod adding;
mod diverging;
mod dropouts;
mod egress;
mod flood;
mod garbage;
mod identity;
mod opened;
mod panicking;
mod private;
mod protected;
mod untrained;
mod withdrawn;

use super::*;
use crate::{Event, Unobserved, adapter_folder, privacy::PrivacySettings, recipe_of};

const SEED: u64 = 7;
const PATIENCE: Duration = Duration::from_secs(60);

/// A participant's side of a connection and the server's, which lives as long as its listener.
async fn linked() -> (Link, Link, Listener) {
    let name = adding::name(0);
    let certificates = Federation::create("treaty", &[name.as_str()]).unwrap();
    let limits = Limits::default();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let mut listener = listen(anywhere, &tls(certificates.server()), &limits).unwrap();
    let material = tls(certificates.participant(name.as_str()).unwrap());
    let dial = connect(listener.local_address(), &material, &limits);
    let (link, served) = tokio::join!(dial, listener.accept());
    (link.unwrap(), served.unwrap().unwrap(), listener)
}

/// The folder of a tiny model and the model itself, made once.
fn base() -> Arc<BaseModel> {
    static BASE: OnceLock<Arc<BaseModel>> = OnceLock::new();
    Arc::clone(BASE.get_or_init(|| make_base(11)))
}

fn make_base(seed: u64) -> Arc<BaseModel> {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), &tiny::shape(), seed).unwrap();
    let device = device::open(DeviceChoice::Cpu).unwrap();
    Arc::new(BaseModel::open(folder.path(), &device).unwrap())
}

fn text(words: &[&str]) -> Arc<Dataset> {
    let records = words
        .iter()
        .map(|word| Record::Text((*word).to_owned()))
        .collect();
    let source = Path::new("memory.jsonl");
    Arc::new(Dataset::from_records(source, records, &base().tokenizer, 64).unwrap())
}

const NAMES: [&str; 4] = ["north", "south", "east", "west"];

const WORDS: [&str; 5] = ["the ward", "a ledger", "pulse 72", "credit", "two and two"];

/// A federation of two, with everything that a test may want to change.
struct World {
    certificates: Federation,
    folder: TempDir,
    participants: u32,
    max_tokens: u32,
    ewc: Option<EwcSettings>,
    privacy: Option<PrivacyPlan>,
    participant_privacy: Option<ParticipantPrivacyPlan>,
    site_privacy: Option<PrivacySettings>,
    base: Arc<BaseModel>,
    shared: bool,
    transfer: ValueEncoding,
    /// Updates travel in the ring, with or without masks.
    ring: Option<Masks>,
    /// Leaves when it begins to send its update of the second round.
    leaver: Option<&'static str>,
    observer: Arc<dyn Observer>,
    shutdown: Shutdown,
    /// What else is set before a participant begins.
    adjust: Arc<dyn Fn(&mut Settings) + Send + Sync>,
}

/// What is on updates in the ring.
#[derive(Clone, Copy, PartialEq)]
enum Masks {
    Off,
    On,
}

type Ended = (
    Result<RunOutcome, ServerError>,
    Vec<Result<Outcome, ClientError>>,
);

impl World {
    fn new() -> Self {
        let world = Self {
            certificates: Federation::create("treaty", &NAMES).unwrap(),
            folder: tempfile::tempdir().unwrap(),
            participants: 2,
            max_tokens: 64,
            ewc: None,
            privacy: None,
            participant_privacy: None,
            site_privacy: None,
            base: base(),
            shared: false,
            transfer: ValueEncoding::F32,
            ring: None,
            leaver: None,
            observer: Arc::new(Unobserved),
            shutdown: Shutdown::never(),
            adjust: Arc::new(|_| {}),
        };
        let base = base();
        let sidecar = Sidecar {
            base_fingerprint: base.fingerprint,
            base_name: base.name.clone(),
        };
        let start = world.folder.path().join("start");
        adapter_folder::write(&start, &start_adapter(), LORA_DROPOUT, &sidecar).unwrap();
        world
    }

    /// Runs the server and the named participants with their texts, all to their ends.
    async fn run(&self, texts: &[(&str, Arc<Dataset>)]) -> Ended {
        let server = Server::bind(self.server()).unwrap();
        let address = server.address().to_string();
        let turn = DeviceTurn::new();
        let clients = texts.iter().map(|(name, text)| {
            let material = self.certificates.participant(name).unwrap();
            let mut settings = Settings::new(&address, tls(material));
            settings.share_train_loss = self.shared;
            (self.adjust)(&mut settings);
            settings.privacy.clone_from(&self.site_privacy);
            let text = TrainingText::Ready(Arc::clone(text));
            let (base, turn) = (Arc::clone(&self.base), turn.clone());
            let (mut observer, mut shutdown) = (Arc::clone(&self.observer), self.shutdown.clone());
            if self.leaver == Some(*name) {
                let (switch, requested) = Shutdown::channel();
                shutdown = requested;
                observer = Arc::new(move |event: &Event| {
                    if let Event::Uploading {
                        round: Round(2), ..
                    } = event
                    {
                        switch.request();
                    }
                });
            }
            tokio::spawn(federate(settings, base, text, turn, observer, shutdown))
        });
        let clients: Vec<_> = clients.collect();
        let observer = Arc::new(|_: &server::RunEvent| {});
        let served = server.run(observer, std::future::pending()).await;
        let mut ends = Vec::new();
        for client in clients {
            ends.push(client.await.unwrap());
        }
        (served, ends)
    }

    fn server(&self) -> server::Config {
        let material = tls(self.certificates.server());
        let start = self.folder.path().join("start");
        let mut config = server::Config::new(material, "trial".parse().unwrap(), start);
        config.run.out = self.folder.path().join("runs");
        config.run.rounds = 2;
        config.run.seed = SEED;
        config.run.transfer = self.transfer;
        config.training = TrainingPlan {
            local_steps: 3,
            batch_examples: 2,
            max_tokens: self.max_tokens,
            learning_rate: 5e-3,
            ..config.training
        };
        // Named, so that the run does not wait for others when one of them leaves.
        let names = &NAMES[..self.participants as usize];
        config.cohort.participants =
            Participants::Named(names.iter().map(|name| name.parse().unwrap()).collect());
        config.cohort.quorum = self.participants.min(3);
        config.cohort.soft_deadline = PATIENCE;
        config.cohort.hard_deadline = PATIENCE;
        config.cohort.stall_limit = PATIENCE;
        config.cohort.join_deadline = Duration::from_millis(100);
        config.limits.participants_max = self.participants;
        config.ewc.clone_from(&self.ewc);
        config.privacy.clone_from(&self.privacy);
        config
            .participant_privacy
            .clone_from(&self.participant_privacy);
        config.ring = self.ring.map(|_| RingPlan {
            bits: RingBits::Bits32,
            value_max: 0.25,
        });
        // Six examples a round: what is far below the limit has few steps for its values.
        config.limits.weight_max = 8;
        let secure = SecureAggregationPlan {
            cohort_min: 3,
            trust: ServerTrust::Malicious,
        };
        config.secure_aggregation = self
            .ring
            .and_then(|masks| (masks == Masks::On).then_some(secure));
        config
    }
}

const LORA_DROPOUT: f64 = 0.1;

fn start_adapter() -> Adapter {
    let layout = base().adapter_layout(&LoraConfig::default()).unwrap();
    Adapter::initial(Arc::new(layout), SEED)
}

fn tls(material: &Material) -> TlsMaterial {
    let Material {
        certificate,
        key,
        authority,
        revocations,
        ..
    } = material;
    TlsMaterial::from_pem(certificate, key, authority, Some(revocations)).unwrap()
}

fn distance(one: &Adapter, other: &Adapter) -> f64 {
    one.difference(other).unwrap().norm()
}

/// Trains alone by the plan of a run.
fn alone(plan: &RunPlan, text: &Arc<Dataset>, pull: Option<AnchorPull>) -> Adapter {
    let recipe = recipe_of(plan);
    let steps = recipe.total_steps;
    let mut trainer = Trainer::new(
        Arc::clone(&base().llama),
        Arc::clone(text),
        recipe,
        plan.seed,
        pull,
    )
    .unwrap();
    let mut go_on = |_: &_| std::ops::ControlFlow::Continue(());
    trainer
        .run(&start_adapter(), 0, steps, &mut go_on)
        .unwrap()
        .adapter
}

#[tokio::test(flavor = "multi_thread")]
async fn federation_of_one_is_local_training() {
    let mut world = World::new();
    world.participants = 1;
    let words = text(&WORDS);
    let (served, ends) = world.run(&[("north", Arc::clone(&words))]).await;
    let [Ok(outcome)] = &ends[..] else {
        panic!("{ends:?}")
    };
    assert_eq!(outcome.adapter, served.unwrap().adapter);
    let local = alone(&outcome.plan, &words, None);
    let apart = distance(&outcome.adapter, &local);
    assert!(apart < 1e-6 * local.norm(), "{apart}");
    assert!(distance(&local, &start_adapter()) > 1e-2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_run_comes_to_the_same_bytes_as_a_plain_one_in_the_same_ring() {
    let texts: Vec<_> = NAMES[..3]
        .iter()
        .zip([&WORDS[..2], &WORDS[1..5], &WORDS[3..]])
        .map(|(name, words)| (*name, text(words)))
        .collect();
    let mut adapters = Vec::new();
    for ring in [Some(Masks::On), Some(Masks::Off), None] {
        let mut world = World::new();
        (world.participants, world.ring) = (3, ring);
        let (served, ends) = world.run(&texts).await;
        let served = served.unwrap();
        for end in &ends {
            assert_eq!(end.as_ref().unwrap().adapter, served.adapter);
        }
        let values = served.adapter.values().len() as u64;
        let extra = if ring.is_some() { 2 } else { 0 };
        assert_eq!(served.bytes_up, 2 * 3 * 4 * (values + extra));
        for round in &served.records {
            let is_masked = ring == Some(Masks::On);
            assert_eq!(round.participants.len(), 3);
            assert_eq!(
                round.participants.iter().all(|one| one.weight == 0),
                is_masked
            );
            assert_eq!(round.inexactness.is_some(), ring.is_none());
            let secure = round.secure.as_ref();
            assert_eq!(
                secure.map(|secure| (secure.attempt, secure.threshold)),
                is_masked.then_some((1, 3))
            );
        }
        adapters.push(served.adapter);
    }
    assert_eq!(adapters[0], adapters[1], "masks change nothing");
    let apart = distance(&adapters[0], &adapters[2]);
    let moved = distance(&adapters[2], &start_adapter());
    assert!(apart < 1e-2 * moved, "{apart} of {moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_leaves_while_it_sends_its_masked_update_does_not_stop_a_masked_run() {
    let mut world = World::new();
    (world.participants, world.ring) = (4, Some(Masks::On));
    world.leaver = Some("west");
    let texts: Vec<_> = NAMES.iter().map(|name| (*name, text(&WORDS))).collect();
    let (served, ends) = world.run(&texts).await;
    let served = served.unwrap();
    assert!(
        matches!(ends[3], Err(ClientError::Stopped)),
        "{:?}",
        ends[3]
    );
    for end in &ends[..3] {
        assert_eq!(end.as_ref().unwrap().adapter, served.adapter);
    }
    // Its update was whole before it left, or it dropped out: the masks came off in either case.
    let last = served.records.last().unwrap();
    let counted: Vec<_> = last
        .participants
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert!(
        ["east", "north", "south"]
            .iter()
            .all(|name| counted.contains(name)),
        "{counted:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rounded_transfers_take_half_of_the_bytes_and_end_near_the_exact_run() {
    let mut world = World::new();
    (world.participants, world.transfer) = (1, ValueEncoding::Bf16);
    let words = text(&WORDS);
    let (served, ends) = world.run(&[("north", Arc::clone(&words))]).await;
    let [Ok(outcome)] = &ends[..] else {
        panic!("{ends:?}")
    };
    let served = served.unwrap();
    assert_eq!(
        outcome.adapter, served.adapter,
        "the final adapter travels exactly"
    );
    let bytes = outcome.plan.adapter_bytes;
    // Two updates and two adapters to start from in half, the final one in full.
    assert_eq!((outcome.bytes_up, outcome.bytes_down), (bytes, 2 * bytes));
    let roundings: Vec<_> = served.records.iter().map(|round| round.rounding).collect();
    assert!(
        0.0 < roundings[0] && roundings[0] < 1.0 / 256.0,
        "{roundings:?}"
    );
    assert_eq!(roundings[1], 0.0);
    let local = alone(&outcome.plan, &words, None);
    let (apart, moved) = (
        distance(&outcome.adapter, &local),
        distance(&local, &start_adapter()),
    );
    assert!(0.0 < apart && apart < moved / 50.0, "{apart} of {moved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_in_blocks_of_int8_take_a_quarter_of_the_bytes_and_end_near_the_exact_run() {
    let mut world = World::new();
    (world.participants, world.transfer) = (1, ValueEncoding::Int8);
    let words = text(&WORDS);
    let (served, ends) = world.run(&[("north", Arc::clone(&words))]).await;
    let [Ok(outcome)] = &ends[..] else {
        panic!("{ends:?}")
    };
    assert_eq!(outcome.adapter, served.unwrap().adapter);
    let (bytes, up) = (outcome.plan.adapter_bytes, outcome.plan.update_bytes());
    assert!(3.7 < bytes as f64 / up as f64, "{up} of {bytes}");
    // Two adapters to start from in half, the final one in full.
    assert_eq!((outcome.bytes_up, outcome.bytes_down), (2 * up, 2 * bytes));
    for done in &outcome.rounds {
        let rounding = done.rounding.unwrap();
        assert!((1e-4..0.05).contains(&rounding), "{rounding}");
    }
    let local = alone(&outcome.plan, &words, None);
    let (apart, moved) = (
        distance(&outcome.adapter, &local),
        distance(&local, &start_adapter()),
    );
    assert!(0.0 < apart && apart < moved / 25.0, "{apart} of {moved}");
    // The same run again comes to the same bytes.
    let again = World {
        transfer: ValueEncoding::Int8,
        participants: 1,
        ..World::new()
    };
    let (served, _) = again.run(&[("north", words)]).await;
    assert_eq!(served.unwrap().adapter, outcome.adapter);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_participants_with_equal_data_are_one() {
    let world = World::new();
    let (_, ends) = world
        .run(&[("north", text(&WORDS)), ("south", text(&WORDS))])
        .await;
    let [Ok(north), Ok(south)] = &ends[..] else {
        panic!("{ends:?}")
    };
    assert_eq!(north.adapter, south.adapter);
    let apart = distance(&north.adapter, &alone(&north.plan, &text(&WORDS), None));
    assert!(apart < 1e-6 * north.adapter.norm(), "{apart}");
    let bytes = north.plan.adapter_bytes;
    assert_eq!((north.bytes_up, north.bytes_down), (2 * bytes, 3 * bytes));
    let rounds: Vec<_> = north
        .rounds
        .iter()
        .map(|done| (done.round, done.weight))
        .collect();
    assert_eq!(rounds, [(Round(1), 5), (Round(2), 4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn training_loss_leaves_the_site_only_if_it_is_shared() {
    for shared in [false, true] {
        let mut world = World::new();
        (world.participants, world.shared) = (1, shared);
        let (served, _) = world.run(&[("north", text(&WORDS))]).await;
        let records = served.unwrap().records;
        let told = records
            .iter()
            .all(|round| round.participants[0].train_loss.is_some());
        let untold = records
            .iter()
            .all(|round| round.participants[0].train_loss.is_none());
        assert_eq!((told, untold), (shared, !shared));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anchor_travels_to_the_participant_and_pulls() {
    let mut world = World::new();
    world.participants = 1;
    let lora = LoraConfig::default();
    let words = text(&WORDS);
    let anchor = finetune::fisher::fisher(&base(), &lora, &words, 1, &mut |_| {}).unwrap();
    let file = world.folder.path().join("anchor.safetensors");
    std::fs::write(&file, anchor.to_bytes()).unwrap();
    world.ewc = Some(EwcSettings {
        lambda: 0.5,
        place: EwcPlace::Client,
        anchor: file,
    });
    let (_, ends) = world.run(&[("north", Arc::clone(&words))]).await;
    let [Ok(outcome)] = &ends[..] else {
        panic!("{ends:?}")
    };
    let layout = start_adapter().layout().clone();
    let bound: BoundAnchor = anchor.bind(&layout, &base().fingerprint).unwrap();
    let pulled = alone(
        &outcome.plan,
        &words,
        Some(AnchorPull {
            anchor: bound,
            lambda: 0.5,
        }),
    );
    let apart = distance(&outcome.adapter, &pulled);
    assert!(apart < 1e-6 * pulled.norm(), "{apart}");
    assert!(distance(&pulled, &alone(&outcome.plan, &words, None)) > 1e-4);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_base_model_is_declined_before_training() {
    let mut world = World::new();
    world.participants = 1;
    world.base = make_base(12);
    let heard = Arc::new(Mutex::new(BTreeMap::new()));
    let told = Arc::clone(&heard);
    world.observer = Arc::new(move |event: &Event| {
        let kind = match event {
            Event::Plan { .. } => "plan",
            Event::Step { .. } => "step",
            _ => return,
        };
        *told.lock().unwrap().entry(kind).or_insert(0) += 1;
    });
    let (served, ends) = world.run(&[("north", text(&WORDS))]).await;
    let [Err(error @ ClientError::Declined(_))] = &ends[..] else {
        panic!("{ends:?}")
    };
    assert!(error.to_string().contains("but this site has"), "{error}");
    // The name of the model's folder and its fingerprint stay here.
    let told = agreement::reason_for_server(error).to_string();
    assert_eq!(told, "this site has another base model than the plan's");
    assert!(!error.is_temporary());
    assert!(heard.lock().unwrap().is_empty());
    assert!(served.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_with_longer_texts_than_the_model_reads_is_declined_whatever_texts_there_are() {
    let mut world = World::new();
    (world.participants, world.max_tokens) = (1, 513);
    let (served, ends) = world.run(&[("north", text(&WORDS))]).await;
    let [Err(error @ ClientError::Declined(_))] = &ends[..] else {
        panic!("{ends:?}")
    };
    let said = error.to_string();
    assert!(
        said.contains("max_tokens is 513, but") && said.contains("at most 512 tokens"),
        "{said}"
    );
    assert!(served.is_err());
    world.max_tokens = 512;
    std::fs::remove_dir_all(world.folder.path().join("runs")).unwrap();
    let (_, ends) = world.run(&[("north", text(&WORDS))]).await;
    assert!(matches!(&ends[..], [Ok(_)]), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_to_stop_leaves_the_run_and_tells_the_server() {
    let mut world = World::new();
    world.participants = 1;
    let (switch, shutdown) = Shutdown::channel();
    world.shutdown = shutdown;
    world.observer = Arc::new(move |event: &Event| {
        if matches!(event, Event::Step { .. }) {
            switch.request();
        }
    });
    let (served, ends) = world.run(&[("north", text(&WORDS))]).await;
    assert!(matches!(&ends[..], [Err(ClientError::Stopped)]), "{ends:?}");
    // The server does not wait for the deadline: it was told.
    let error = served.unwrap_err();
    assert!(
        matches!(&error, ServerError::Unfinished { reason, .. } if *reason == RunFailure::QuorumOutOfReach),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn participant_of_another_authority_is_told_at_once() {
    let world = World::new();
    let server = Server::bind(world.server()).unwrap();
    let strangers = Federation::create("treaty", &["north"]).unwrap();
    let material = tls(strangers.participant("north").unwrap());
    let settings = Settings::new(server.address().to_string(), material);
    let serving =
        tokio::spawn(server.run(Arc::new(|_: &server::RunEvent| {}), std::future::pending()));
    let error = taking_part(settings).await.unwrap_err();
    assert!(matches!(error, ClientError::Handshake(_)), "{error}");
    assert!(!error.is_temporary());
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_stays_away_is_a_temporary_obstacle() {
    let world = World::new();
    let material = tls(world.certificates.participant("north").unwrap());
    let mut settings = Settings::new("no-such-host.invalid:4433", material);
    let pause = Duration::from_millis(1);
    settings.patience = Patience {
        first_pause: pause,
        longest_pause: pause,
        give_up_after: Duration::from_millis(50),
    };
    let error = taking_part(settings).await.unwrap_err();
    assert!(matches!(error, ClientError::ServerAway { .. }), "{error}");
    assert!(error.is_temporary());
    assert!(
        error
            .to_string()
            .contains("cannot resolve no-such-host.invalid"),
        "{error}"
    );
}

async fn taking_part(settings: Settings) -> Result<Outcome, ClientError> {
    let text = TrainingText::Ready(text(&WORDS));
    let observer = Arc::new(Unobserved);
    federate(
        settings,
        base(),
        text,
        DeviceTurn::new(),
        observer,
        Shutdown::never(),
    )
    .await
}
