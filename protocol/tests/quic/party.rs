//! What the tests share: material, a listener and a link to it, values that are the same each run.

use std::net::SocketAddr;
use std::time::Duration;

use certs::throwaway::{Federation, Material};
use protocol::message::{Content, TransferHeader, TransferKind};
use protocol::plan::{
    BasePlan, CohortPlan, Download, LatePolicy, LimitsPlan, LoraPlan, Participants, RunPlan,
    Schedule, StrategyPlan, TrainingPlan, ValueEncoding,
};
use protocol::quic::{HandshakeError, Limits, Link, Listener, TlsMaterial, connect, listen};
use protocol::{Digest, Round};

pub(crate) fn federation() -> Federation {
    Federation::create("north-sea", &["hospital-a", "hospital-b"]).unwrap()
}

pub(crate) fn tls(material: &Material) -> TlsMaterial {
    TlsMaterial::from_pem(
        &material.certificate,
        &material.key,
        &material.authority,
        Some(&material.revocations),
    )
    .unwrap()
}

/// One party's certificate and key, with the authority and the list of another.
pub(crate) fn mixed(own: &Material, trusted: &Material) -> TlsMaterial {
    TlsMaterial::from_pem(
        &own.certificate,
        &own.key,
        &trusted.authority,
        Some(&trusted.revocations),
    )
    .unwrap()
}

pub(crate) fn participant(federation: &Federation) -> TlsMaterial {
    tls(federation.participant("hospital-a").unwrap())
}

pub(crate) fn server(federation: &Federation) -> Listener {
    start(&tls(federation.server()))
}

pub(crate) fn start(material: &TlsMaterial) -> Listener {
    listen(loopback(), material, &Limits::default()).unwrap()
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Both ends of one handshake, whatever comes of it.
pub(crate) async fn meet(
    listener: &mut Listener,
    client: &TlsMaterial,
) -> (Result<Link, HandshakeError>, Result<Link, HandshakeError>) {
    let limits = Limits::default();
    let dial = connect(listener.local_address(), client, &limits);
    let (client, server) = tokio::join!(dial, listener.accept());
    (client, server.unwrap())
}

/// A listener and both ends of a link to it.
pub(crate) async fn linked(federation: &Federation) -> (Listener, Link, Link) {
    let mut listener = server(federation);
    let (client, server) = meet(&mut listener, &participant(federation)).await;
    (listener, client.unwrap(), server.unwrap())
}

/// Bytes without a pattern that a lost or doubled chunk would leave intact.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub(crate) fn header(payload: &[u8]) -> TransferHeader {
    let plan = Digest::of(b"plan");
    let content = Content::of(payload);
    TransferHeader::from_server(TransferKind::GlobalAdapter, Round::FIRST, plan, content)
}

/// A run plan of sensible values.
pub(crate) fn plan() -> RunPlan {
    RunPlan {
        run: "wards".parse().unwrap(),
        base: BasePlan {
            name: "SmolLM2-135M".into(),
            fingerprint: Digest::of(b"base"),
        },
        lora: LoraPlan {
            rank: 16,
            alpha: 32.0,
            dropout: 0.1,
            rslora: false,
            target_modules: vec!["q_proj".into(), "v_proj".into()],
        },
        layout_digest: Digest::of(b"layout"),
        adapter_bytes: 1 << 20,
        encoding: ValueEncoding::F32,
        download: Download::Whole,
        rounds: 3,
        seed: 7,
        training: TrainingPlan {
            local_steps: 10,
            batch_examples: 4,
            accumulation: 1,
            max_tokens: 512,
            learning_rate: 2e-4,
            warmup_steps: 3,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            clip_norm: 1.0,
        },
        strategy: StrategyPlan::FedAvg,
        ewc: None,
        privacy: None,
        participant_privacy: None,
        ring: None,
        secure_aggregation: None,
        cohort: CohortPlan {
            participants: Participants::Any,
            quorum: 2,
            soft_deadline: Duration::from_secs(60),
            hard_deadline: Duration::from_secs(600),
            stall_limit: Duration::from_secs(30),
            join_deadline: Duration::from_secs(60),
            select: None,
            enough: None,
            late: LatePolicy::Refuse,
        },
        limits: LimitsPlan {
            update_norm_max: 10.0,
            weight_max: 1000,
            participants_max: 8,
        },
    }
}
