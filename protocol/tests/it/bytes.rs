//! Messages and frames as bytes (rules W1 to W3): properties over random values, extremes, and random bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use protocol::close::{RefusalReason, RunFailure};
use protocol::codec::{DecodeError, EncodeError, decode, encode};
use protocol::frame::{FrameDecoder, MAX_FRAME_BYTES, encode_frame};
use protocol::message::{
    Beginning, Capabilities, Metrics, ResendReason, ToClient, ToServer, TransferHeader,
    TransferKind,
};
use protocol::plan::SignedPlan;
use protocol::seal::Seal;
use protocol::transcript::{Excerpt, Heading, Inclusion, Line, Verdict};
use protocol::{Digest, Round, Text, TransferId};

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![any::<String>(), "x{600}", Just(String::new())].prop_map(|words| Text::new(&words))
}

fn round() -> impl Strategy<Value = Round> {
    prop_oneof![any::<u32>(), Just(0), Just(u32::MAX)].prop_map(Round)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), Just(0), Just(250), Just(251), Just(u64::MAX)]
}

fn header() -> impl Strategy<Value = TransferHeader> {
    let kind = prop_oneof![
        Just(TransferKind::Anchor),
        Just(TransferKind::GlobalAdapter),
        Just(TransferKind::Update),
        Just(TransferKind::FinalAdapter),
        Just(TransferKind::GlobalDelta),
        Just(TransferKind::FinalDelta),
    ];
    let id = any::<[u8; 16]>().prop_map(TransferId);
    (id, kind, round(), digest(), number(), digest(), number()).prop_map(
        |(id, kind, round, plan, bytes, sha256, offset)| TransferHeader {
            id,
            kind,
            round,
            plan,
            bytes,
            sha256,
            offset,
        },
    )
}

fn metrics() -> impl Strategy<Value = Metrics> {
    let loss = prop_oneof![
        any::<f32>(),
        Just(f32::MAX),
        Just(f32::MIN_POSITIVE),
        Just(-0.0)
    ];
    proptest::option::of(loss.prop_filter("finite", |loss| loss.is_finite()))
        .prop_map(|train_loss| Metrics { train_loss })
}

fn beginning() -> impl Strategy<Value = Beginning> {
    (digest(), number()).prop_map(|(sha256, bytes)| Beginning { sha256, bytes })
}

fn resend_reason() -> impl Strategy<Value = ResendReason> {
    prop_oneof![
        Just(ResendReason::Damaged),
        Just(ResendReason::NoBase),
        Just(ResendReason::BaseDamaged),
        Just(ResendReason::BadDelta),
    ]
}

fn to_server() -> impl Strategy<Value = ToServer> {
    prop_oneof![
        (any::<u32>(), text(), number()).prop_map(|(version, software, bits)| ToServer::Hello {
            version,
            software,
            capabilities: Capabilities(bits),
        }),
        (
            digest(),
            vec(digest(), 0..12),
            vec(beginning(), 0..12),
            round()
        )
            .prop_map(|(plan, holds, begun, recorded)| ToServer::Ready {
                plan,
                holds,
                begun,
                recorded,
            }),
        (digest(), text()).prop_map(|(plan, reason)| ToServer::Decline { plan, reason }),
        (round(), any::<u32>(), any::<u32>()).prop_map(|(round, step, steps)| ToServer::Progress {
            round,
            step,
            steps
        }),
        (header(), number(), metrics()).prop_map(|(transfer, weight, metrics)| ToServer::Offer {
            transfer,
            weight,
            metrics
        }),
        any::<[u8; 16]>().prop_map(|id| ToServer::Received {
            transfer: TransferId(id)
        }),
        (any::<[u8; 16]>(), resend_reason()).prop_map(|(id, reason)| ToServer::Resend {
            transfer: TransferId(id),
            reason,
        }),
        text().prop_map(|reason| ToServer::Leave { reason }),
    ]
}

fn seal() -> impl Strategy<Value = Seal> {
    let certificates = vec(vec(any::<u8>(), 0..700), 0..4);
    (vec(any::<u8>(), 0..65), certificates).prop_map(|(signature, certificates)| Seal {
        signature,
        certificates,
    })
}

fn heading() -> impl Strategy<Value = Heading> {
    let digests = [(); 6].map(|()| digest());
    (digests, round(), any::<u32>()).prop_map(
        |([plan, previous, before, after, adapter, root], round, lines)| Heading {
            plan,
            round,
            previous,
            before,
            after,
            adapter,
            lines,
            root,
        },
    )
}

fn inclusion() -> impl Strategy<Value = Inclusion> {
    let verdict = prop_oneof![
        (digest(), number()).prop_map(|(update, weight)| Verdict::Accepted { update, weight }),
        proptest::sample::select(RefusalReason::ALL).prop_map(|reason| Verdict::Refused { reason }),
        Just(Verdict::Missing),
    ];
    (
        digest(),
        verdict,
        digest(),
        any::<u32>(),
        vec(digest(), 0..33),
    )
        .prop_map(|(participant, verdict, blind, index, path)| Inclusion {
            line: Line {
                participant,
                verdict,
                blind,
            },
            index,
            path,
        })
}

fn excerpt() -> impl Strategy<Value = Excerpt> {
    let own = vec(inclusion(), 0..4);
    (heading(), seal(), own).prop_map(|(heading, seal, own)| Excerpt { heading, seal, own })
}

fn to_client() -> impl Strategy<Value = ToClient> {
    let refusal = proptest::sample::select(RefusalReason::ALL);
    let failure = proptest::sample::select(RunFailure::ALL);
    prop_oneof![
        (any::<u32>(), text(), vec(any::<u8>(), 0..60_000), seal()).prop_map(
            |(version, software, plan, seal)| ToClient::Welcome {
                version,
                software,
                plan: SignedPlan { plan, seal },
            }
        ),
        excerpt().prop_map(|excerpt| ToClient::Recorded(Box::new(excerpt))),
        header().prop_map(|global| ToClient::Train { global }),
        (any::<[u8; 16]>(), number()).prop_map(|(id, offset)| ToClient::Deliver {
            transfer: TransferId(id),
            offset
        }),
        round().prop_map(|round| ToClient::Accepted { round }),
        (round(), refusal).prop_map(|(round, reason)| ToClient::Refused { round, reason }),
        (any::<u32>(), header())
            .prop_map(|(rounds, adapter)| ToClient::Finished { rounds, adapter }),
        (failure, text()).prop_map(|(reason, detail)| ToClient::Failed { reason, detail }),
        (round(), round()).prop_map(|(round, until)| ToClient::Postponed { round, until }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    /// W2: what is encoded decodes to itself, and nothing may be left over.
    #[test]
    fn a_message_to_the_server_survives_its_bytes(message in to_server(), extra in any::<u8>()) {
        let mut bytes = encode(&message).unwrap();
        prop_assert_eq!(&decode::<ToServer>(&bytes).unwrap(), &message);
        bytes.push(extra);
        let (used, found) = (bytes.len() - 1, bytes.len());
        prop_assert_eq!(decode::<ToServer>(&bytes), Err(DecodeError::Trailing { used, found }));
    }

    /// W2: likewise the other way; and cut short it is an error.
    #[test]
    fn a_message_to_a_participant_survives_its_bytes(message in to_client(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&message).unwrap();
        prop_assert_eq!(&decode::<ToClient>(&bytes).unwrap(), &message);
        prop_assert!(decode::<ToClient>(&bytes[..cut.index(bytes.len())]).is_err());
    }

    /// W2: the header of a bulk stream likewise.
    #[test]
    fn a_transfer_header_survives_its_bytes(header in header()) {
        prop_assert_eq!(decode::<TransferHeader>(&encode(&header).unwrap()).unwrap(), header);
    }

    /// W2: any bytes are a message or an error.
    #[test]
    fn any_bytes_decode_or_are_an_error(bytes in vec(any::<u8>(), 0..300)) {
        let _ = decode::<ToServer>(&bytes);
        let _ = decode::<ToClient>(&bytes);
        let _ = decode::<TransferHeader>(&bytes);
        let _ = decode::<protocol::plan::RunPlan>(&bytes);
    }

    /// W1: frames come out as they went in, wherever the stream is cut.
    #[test]
    fn frames_survive_any_cut(
        payloads in vec(vec(any::<u8>(), 1..400), 1..8),
        cuts in vec(1_usize..50, 1..200),
    ) {
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| encode_frame(payload).unwrap()).collect();
        let (mut decoder, mut found, mut rest) = (FrameDecoder::new(), Vec::new(), stream.as_slice());
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            let (mut piece, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            rest = later;
            while let Some(frame) = decoder.feed(&mut piece).unwrap() {
                found.push(frame);
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert!(decoder.is_at_boundary());
        prop_assert_eq!(found, payloads);
    }
}

/// W3: the largest frame is 64 KiB, and nothing above it is encoded or decoded.
#[test]
fn a_message_over_the_limit_is_refused_both_ways() {
    let plan = SignedPlan {
        plan: vec![0; MAX_FRAME_BYTES],
        seal: Seal::default(),
    };
    assert!(matches!(encode(&plan), Err(EncodeError::TooLong { .. })));
    let error = decode::<ToClient>(&vec![0; MAX_FRAME_BYTES + 1]);
    assert_eq!(
        error,
        Err(DecodeError::TooLong {
            found: MAX_FRAME_BYTES + 1
        })
    );
}

/// W2: a length that promises more than there is allocates nothing and is an error.
#[test]
fn a_promised_gigabyte_is_an_error() {
    // Decline, 32 bytes of digest, then a text that announces 2^40 bytes.
    let mut bytes = vec![2];
    bytes.extend([0; 32]);
    bytes.extend([253, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert!(matches!(
        decode::<ToServer>(&bytes),
        Err(DecodeError::Malformed { .. })
    ));
}

/// W2: unknown reasons, text that may not be printed and numbers that are not finite are errors.
#[test]
fn values_that_may_not_be_are_errors_when_they_arrive() {
    let refused = encode(&ToClient::Refused {
        round: Round(1),
        reason: RefusalReason::Late,
    })
    .unwrap();
    assert_eq!(
        refused,
        [5, 1, 251, 4, 1],
        "variant, round, and 0x104 as a u16"
    );
    assert!(decode::<ToClient>(&[5, 1, 251, 0xff, 1]).is_err());

    let leave = encode(&ToServer::Leave {
        reason: Text::new("ab"),
    })
    .unwrap();
    assert_eq!(leave, [6, 2, b'a', b'b']);
    assert!(decode::<ToServer>(&[6, 2, b'a', 0x1b]).is_err());

    assert_eq!(
        encode(&Metrics {
            train_loss: Some(f32::NAN)
        })
        .unwrap(),
        [0]
    );
    let infinite: Vec<u8> = [&[1_u8][..], &f32::INFINITY.to_le_bytes()].concat();
    assert!(decode::<Metrics>(&infinite).is_err());
}
