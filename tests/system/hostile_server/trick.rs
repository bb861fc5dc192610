//! What an impostor changes in what it passes on.

use std::collections::BTreeMap;

use aggregation::Encoding;
use aggregation::delta::{Delta, Travelling, between};
use protocol::message::{Content, ToClient, ToServer, TransferHeader, TransferKind};
use protocol::transcript::{Excerpt, Verdict};
use protocol::{Digest, Round, TransferId};

/// Bytes before a delta's blocks.
const HEAD_BYTES: usize = 82;
/// Where the head has the number of values.
const COUNT: std::ops::Range<usize> = 10..18;

/// Bytes of a delta that are many adapters.
pub(super) const LONG_BYTES: usize = 64 << 20;

/// One way to deceive a participant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trick {
    /// Everything as the real server has it.
    None,
    /// Each delta is of no use, in another way each round; the whole adapter follows when it is asked for.
    UselessDeltas,
    /// A delta is of no use, and another one is the answer to the request for the whole.
    AnotherUselessDelta,
    /// Each delta is announced with as many bytes as the whole adapter has, or far more.
    LongDeltas,
    /// A delta comes to another adapter than the round has.
    OtherAdapter,
    /// The first round's adapter lacks a value, and is announced so.
    Short,
    /// The first round's adapter is not the one announced.
    OtherBytes,
    /// The first round's adapter has values that are no numbers, and is announced so.
    NotFinite,
    /// An adapter that lacks a value comes when the update is offered, and nothing else.
    ShortOnOffer,
    /// More bytes than the participant takes in come when the update is offered.
    EndlessOnOffer,
    /// An anchor comes when the update is offered, under a plan that needs none.
    AnchorOnOffer,
    /// An adapter comes before the plan.
    BeforeThePlan,
    /// What the participant gets of each round's record lacks its own update.
    RecordWithoutUpdate,
    /// What the participant gets of each round's record has another weight for its update.
    RecordOfAnotherWeight,
}

/// What becomes of a message of the participant.
pub(super) enum Reply {
    PassOn(ToServer),
    Nothing,
    Transfer(TransferHeader, Vec<u8>),
}

/// Changes what its trick has it change.
pub(super) struct Forger {
    trick: Trick,
    /// The last global adapter that passed by whole, bf16.
    base: Vec<u8>,
    /// The last global adapter's transfer.
    global: Option<TransferHeader>,
    /// The delta sent last in the place of another, under its header.
    forged: Option<(TransferHeader, Vec<u8>)>,
    /// The transfers in whose place others were sent, by these.
    replaced: BTreeMap<TransferId, TransferId>,
}

impl Forger {
    pub(super) fn new() -> Self {
        Self {
            trick: Trick::None,
            base: Vec::new(),
            global: None,
            forged: None,
            replaced: BTreeMap::new(),
        }
    }

    pub(super) fn play(&mut self, trick: Trick) {
        self.trick = trick;
    }

    /// What the participant hears in the place of a message.
    pub(super) fn message(&self, message: ToClient) -> ToClient {
        match message {
            ToClient::Train { global } => ToClient::Train {
                global: self
                    .other_adapter(&global)
                    .map_or(global, |(header, _)| header),
            },
            ToClient::Recorded(excerpt) => ToClient::Recorded(self.other_record(excerpt)),
            message => message,
        }
    }

    fn other_record(&self, mut excerpt: Box<Excerpt>) -> Box<Excerpt> {
        match self.trick {
            Trick::RecordWithoutUpdate => excerpt.own.clear(),
            Trick::RecordOfAnotherWeight => {
                for own in &mut excerpt.own {
                    if let Verdict::Accepted { weight, .. } = &mut own.line.verdict {
                        *weight += 1;
                    }
                }
            }
            _ => {}
        }
        excerpt
    }

    /// What becomes of a message of the participant.
    pub(super) fn reply(&mut self, message: ToServer) -> Reply {
        match (message, self.trick) {
            // The real server is to think that the connection broke.
            (ToServer::Leave { .. }, _) => Reply::Nothing,
            (ToServer::Offer { .. }, Trick::ShortOnOffer) => {
                let (header, bytes) = of(&self.global.unwrap(), self.base[2..].to_vec());
                Reply::Transfer(header, bytes)
            }
            (ToServer::Offer { .. }, Trick::EndlessOnOffer) => {
                let (header, bytes) = of(&self.global.unwrap(), self.base.repeat(4));
                Reply::Transfer(header, bytes)
            }
            (ToServer::Offer { .. }, Trick::AnchorOnOffer) => {
                let plan = self.global.unwrap().plan;
                let (header, bytes) = zeros(TransferKind::Anchor, Round::FIRST, plan, 3_000_000);
                Reply::Transfer(header, bytes)
            }
            (ToServer::Hello { .. }, Trick::BeforeThePlan) => {
                let (kind, plan) = (TransferKind::GlobalAdapter, Digest([1; 32]));
                let (header, bytes) = zeros(kind, Round::FIRST, plan, 3_000_000);
                Reply::Transfer(header, bytes)
            }
            (ToServer::Resend { .. }, Trick::AnotherUselessDelta) => {
                let (header, bytes) = self.forged.take().unwrap();
                Reply::Transfer(header, bytes)
            }
            (ToServer::Resend { transfer, reason }, _) => {
                let transfer = self.replaced.remove(&transfer).unwrap_or(transfer);
                Reply::PassOn(ToServer::Resend { transfer, reason })
            }
            (message, _) => Reply::PassOn(message),
        }
    }

    /// What the participant gets in the place of a transfer.
    pub(super) fn transfer(
        &mut self,
        header: TransferHeader,
        bytes: Vec<u8>,
    ) -> (TransferHeader, Vec<u8>) {
        match header.kind {
            TransferKind::GlobalAdapter => {
                self.global = Some(header);
                self.base.clone_from(&bytes);
                if self.trick == Trick::OtherBytes {
                    return (header, altered(bytes));
                }
                self.other_adapter(&header).unwrap_or((header, bytes))
            }
            TransferKind::GlobalDelta | TransferKind::FinalDelta => self.delta(header, bytes),
            _ => (header, bytes),
        }
    }

    /// The adapter in the place of the first round's.
    fn other_adapter(&self, global: &TransferHeader) -> Option<(TransferHeader, Vec<u8>)> {
        let length = usize::try_from(global.bytes).unwrap();
        let bytes = match self.trick {
            _ if global.round != Round::FIRST => return None,
            Trick::Short => vec![0; length - 2],
            Trick::NotFinite => [0xc0, 0x7f].repeat(length / 2),
            _ => return None,
        };
        Some(of(global, bytes))
    }

    fn delta(&mut self, header: TransferHeader, bytes: Vec<u8>) -> (TransferHeader, Vec<u8>) {
        if self.trick == Trick::LongDeltas {
            let length = match header.kind {
                TransferKind::FinalDelta => LONG_BYTES,
                _ => self.base.len(),
            };
            let (sent, forged) = zeros(header.kind, header.round, header.plan, length);
            self.replaced.insert(sent.id, header.id);
            return (sent, forged);
        }
        let forged = match (self.trick, header.kind, header.round.0) {
            (Trick::UselessDeltas, TransferKind::FinalDelta, _) => bomb(&bytes),
            (Trick::UselessDeltas, _, 2) | (Trick::AnotherUselessDelta, ..) => {
                self.forge(&bytes, Lie::Result)
            }
            (Trick::UselessDeltas, _, 3) => self.forge(&bytes, Lie::Base),
            (Trick::UselessDeltas, _, 4) => bomb(&bytes),
            (Trick::UselessDeltas, ..) => many(bytes),
            (Trick::OtherAdapter, ..) => self.forge(&bytes, Lie::Adapter),
            _ => return (header, bytes),
        };
        let (sent, forged) = of(&header, forged);
        self.replaced.insert(sent.id, header.id);
        self.forged = Some((sent, forged.clone()));
        (sent, forged)
    }

    /// A delta like this one that lies about one thing.
    fn forge(&self, delta: &[u8], lie: Lie) -> Vec<u8> {
        let delta = Delta::parse(delta).unwrap();
        let next = delta.rebuild(&self.base[..]).unwrap();
        let (base_sha256, sha256) = (Digest::of(&self.base).0, Digest::of(&next).0);
        let other = altered(next.clone());
        let other_sha256 = Digest::of(&other).0;
        let (base_sha256, next, sha256) = match lie {
            Lie::Result => (base_sha256, other, sha256),
            Lie::Base => ([9; 32], next, sha256),
            Lie::Adapter => (base_sha256, other, other_sha256),
        };
        let side = |values, sha256| Travelling {
            values,
            encoding: Encoding::Bf16,
            sha256,
        };
        let (before, after) = (values(&self.base), values(&next));
        between(side(&before, base_sha256), side(&after, sha256)).unwrap()
    }
}

/// What a forged delta says that is not so.
#[derive(Clone, Copy)]
enum Lie {
    /// It comes to other bytes than it says.
    Result,
    /// It is against an adapter that nobody has.
    Base,
    /// It comes to what it says, and that is not the round's adapter.
    Adapter,
}

/// A transfer like another one with other contents.
fn of(header: &TransferHeader, bytes: Vec<u8>) -> (TransferHeader, Vec<u8>) {
    let content = Content::of(&bytes);
    let header = TransferHeader::from_server(header.kind, header.round, header.plan, content);
    (header, bytes)
}

/// So many zeros, announced with the digest of something else: who takes them in finds that wrong, and not their length.
fn zeros(
    kind: TransferKind,
    round: Round,
    plan: Digest,
    length: usize,
) -> (TransferHeader, Vec<u8>) {
    let content = Content {
        bytes: length as u64,
        sha256: Digest([7; 32]),
    };
    let header = TransferHeader::from_server(kind, round, plan, content);
    (header, vec![0; length])
}

/// The adapter with another mantissa in the middle.
fn altered(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 4 * 2;
    bytes[middle] ^= 1;
    bytes
}

fn values(bytes: &[u8]) -> Vec<f32> {
    let upper = bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|&pair| u16::from_le_bytes(pair));
    upper
        .map(|upper| f32::from_bits(u32::from(upper) << 16))
        .collect()
}

/// A delta whose first plane is a frame of zstd that unpacks to 128 MiB.
fn bomb(delta: &[u8]) -> Vec<u8> {
    // RFC 8878, 3.1.1: magic, no content size, a window of 2 MiB; then blocks of 128 KiB that repeat one byte.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for number in (0..1024).rev() {
        let is_last = u32::from(number == 0);
        let block = (128 << 10) << 3 | 1 << 1 | is_last;
        frame.extend_from_slice(&block.to_le_bytes()[..3]);
        frame.push(0x55);
    }
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
    let mut forged = delta[..HEAD_BYTES].to_vec();
    forged.extend_from_slice(&length(4 + frame.len()));
    forged.extend_from_slice(&length(frame.len()));
    forged.extend_from_slice(&frame);
    forged
}

/// A delta that says it has more values than there is memory for.
fn many(mut delta: Vec<u8>) -> Vec<u8> {
    delta[COUNT].copy_from_slice(&(u64::MAX / 4).to_le_bytes());
    delta
}
