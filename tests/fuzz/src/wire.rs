//! Bytes from strangers: frames, messages, plans.

use protocol::codec::{decode, encode};
use protocol::frame::{FrameDecoder, MAX_FRAME_BYTES, encode_frame};
use protocol::message::{ToClient, ToServer, TransferHeader};
use protocol::plan::{RunPlan, SignedPlan};

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
        signature: Vec::new(),
    };
    if let Ok(checked) = signed.open(|_, _| true) {
        assert_eq!(checked.bytes(), bytes);
        assert_eq!(checked.digest(), protocol::Digest::of(bytes));
    }
}
