//! Bytes from strangers: frames, messages, plans.

use std::time::Instant;

use protocol::close::RefusalReason;
use protocol::codec::{decode, encode};
use protocol::coordinator::{AcceptedUpdate, RoundSummary};
use protocol::frame::{FrameDecoder, MAX_FRAME_BYTES, encode_frame};
use protocol::message::{Metrics, ToClient, ToServer, TransferHeader};
use protocol::plan::{RunPlan, SignedPlan};
use protocol::seal::{Examiner, Seal, SealFault};
use protocol::transcript::{Chain, Excerpt, Outline, Record, SealedRecord};
use protocol::{Digest, ParticipantName, Round};

/// Any stream is frames or an error, however it is cut, and what comes out goes in again.
pub fn frame(bytes: &[u8]) {
    let Some((&cut, stream)) = bytes.split_first() else {
        return;
    };
    let pieces = usize::from(cut) + 1;
    let (mut whole, mut rest) = (FrameDecoder::new(), stream);
    let mut frames = Vec::new();
    let mut end = loop {
        match whole.feed(&mut rest) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    for frame in &frames {
        assert!((1..=MAX_FRAME_BYTES).contains(&frame.len()));
        assert_eq!(
            &encode_frame(frame).expect("it came out of a frame")[4..],
            frame.as_slice()
        );
    }
    let mut cut_up = FrameDecoder::new();
    let mut again = Vec::new();
    'stream: for mut piece in stream.chunks(pieces) {
        loop {
            match cut_up.feed(&mut piece) {
                Ok(Some(frame)) => again.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(std::mem::replace(&mut end, Ok(())), Err(error));
                    break 'stream;
                }
            }
        }
    }
    assert_eq!(end, Ok(()));
    assert_eq!(frames, again, "the cut does not matter");
}

/// Any bytes are a message or an error; a message has one meaning.
pub fn message(bytes: &[u8]) {
    if let Ok(message) = decode::<ToServer>(bytes) {
        let again = encode(&message).expect("it was decoded");
        assert_eq!(decode::<ToServer>(&again).as_ref(), Ok(&message));
    }
    if let Ok(message) = decode::<ToClient>(bytes) {
        let again = encode(&message).expect("it was decoded");
        assert_eq!(decode::<ToClient>(&again).as_ref(), Ok(&message));
    }
}

/// Any bytes are a transfer's header or an error; a header has one meaning, and its numbers cannot overflow.
pub fn header(bytes: &[u8]) {
    let Ok(header) = decode::<TransferHeader>(bytes) else {
        return;
    };
    assert!(header.remaining() <= header.bytes);
    assert_eq!(header.at(header.bytes).remaining(), 0);
    let again = encode(&header).expect("it was decoded");
    assert_eq!(decode::<TransferHeader>(&again).as_ref(), Ok(&header));
    // Whoever made it up: its id is right only if it is the one of what it carries.
    let sender = "a".parse().expect("a name");
    let own = TransferHeader::update(&sender, header.round, header.plan, header.content());
    assert_eq!(
        own.id == header.id && own.kind == header.kind && header.offset == 0,
        own == header
    );
}

/// Any bytes are a plan or an error; a plan that passes has one encoding and one digest.
pub fn plan(bytes: &[u8]) {
    if let Ok(plan) = decode::<RunPlan>(bytes) {
        let _ = plan.check();
    }
    let signed = SignedPlan {
        plan: bytes.to_vec(),
        seal: Seal {
            signature: Vec::new(),
            certificates: vec![Vec::new()],
        },
    };
    if let Ok(checked) = signed.open(&Credulous) {
        assert_eq!(checked.bytes(), bytes);
        assert_eq!(checked.digest(), protocol::Digest::of(bytes));
    }
}

/// Believes every seal, so that what is behind it is reached.
#[derive(Debug)]
struct Credulous;

impl Examiner for Credulous {
    fn examine(&self, _: &[u8], _: &Seal) -> Result<(), SealFault> {
        Ok(())
    }
}

/// Any bytes are a record, as a line of a file and as a message, or an error; one that passes is the same when written again.
pub fn transcript(bytes: &[u8]) {
    if let Ok(sealed) = serde_json::from_slice::<SealedRecord>(bytes) {
        let again = serde_json::to_vec(&sealed).expect("it was read");
        assert_eq!(
            serde_json::from_slice::<SealedRecord>(&again).ok(),
            Some(sealed.clone())
        );
        judge(&sealed);
    }
    if let Ok(sealed) = decode::<SealedRecord>(bytes) {
        judge(&sealed);
    }
    if let Ok(excerpt) = decode::<Excerpt>(bytes) {
        let own = excerpt
            .own
            .first()
            .map(|inclusion| inclusion.line.participant);
        let _ = excerpt.check(own.unwrap_or_default(), &Credulous);
    }
}

/// A line of a transcript with a line of each kind, to be damaged.
pub fn record_line() -> Vec<u8> {
    let now = Instant::now();
    let name = |name: &str| name.parse::<ParticipantName>().expect("a label");
    let summary = RoundSummary {
        round: Round::FIRST,
        opened_at: now,
        closed_at: now,
        accepted: vec![AcceptedUpdate {
            participant: name("a"),
            weight: 12,
            bytes: 64,
            sha256: Digest([3; 32]),
            rounds_late: 0,
            metrics: Metrics::default(),
        }],
        refused: vec![(name("b"), RefusalReason::OverNorm)],
        missing: vec![name("c")],
    };
    let outline = Outline {
        plan: Digest([1; 32]),
        previous: Digest([1; 32]),
        before: Digest([2; 32]),
        after: Digest([4; 32]),
        adapter: Digest([5; 32]),
        secret: Digest([6; 32]),
    };
    let sealed = Record::draw_up(&outline, &summary).seal(|_| Seal {
        signature: vec![7; 64],
        certificates: vec![vec![8; 16]],
    });
    serde_json::to_vec(&sealed).expect("a record is JSON")
}

fn judge(sealed: &SealedRecord) {
    let heading = &sealed.record.heading;
    let checked = sealed.check(&Credulous);
    if checked.is_ok() {
        assert_eq!(sealed.record.lines.len(), heading.lines as usize);
    }
    let mut chain = Chain::new(heading.plan);
    if chain.extend(heading).is_ok() {
        assert_eq!(chain.last(), heading.hash());
        assert!(chain.extend(heading).is_err(), "no record comes twice");
    }
}
