//! Parts over broken connections and killed processes, on disk and in memory.

use protocol::{Round, message::Content};

use super::*;

const WHOLE: &[u8] = b"the adapter of round one";

fn header(kind: TransferKind, bytes: &[u8]) -> TransferHeader {
    TransferHeader::from_server(kind, Round(1), Digest([1; 32]), Content::of(bytes))
}

fn global() -> TransferHeader {
    header(TransferKind::GlobalAdapter, WHOLE)
}

/// Hands over pieces and, if it came so far, the end.
fn receive(
    arrivals: &Arrivals,
    header: TransferHeader,
    bytes: &[u8],
    last: Option<Piece>,
) -> Arrival {
    let (sender, pieces) = mpsc::channel(bytes.len() + 2);
    for chunk in bytes.chunks(3) {
        sender
            .try_send(Piece::Bytes(vec![Bytes::copy_from_slice(chunk)]))
            .unwrap();
    }
    if let Some(last) = last {
        sender.try_send(last).unwrap();
    }
    drop(sender);
    arrivals.receive(&header, pieces).unwrap()
}

fn begun(header: &TransferHeader, bytes: u64) -> Vec<Beginning> {
    let sha256 = header.sha256;
    vec![Beginning { sha256, bytes }]
}

/// Stores with and without a disk.
fn both(test: impl Fn(&Arrivals)) {
    let folder = tempfile::tempdir().unwrap();
    test(&Arrivals::new(Some(&folder.path().join("site.state"))));
    test(&Arrivals::new(None));
}

#[test]
fn a_part_goes_on_where_it_broke_off() {
    both(|arrivals| {
        assert_eq!(arrivals.list().unwrap(), []);
        let broken = receive(arrivals, global(), &WHOLE[..5], None);
        assert_eq!(broken, Arrival::Part);
        assert_eq!(arrivals.list().unwrap(), begun(&global(), 5));
        let broken = receive(arrivals, global().at(5), &WHOLE[5..9], None);
        assert_eq!(broken, Arrival::Part);
        // The sender may begin before the end of what is kept.
        let whole = receive(arrivals, global().at(7), &WHOLE[7..], Some(Piece::End));
        assert_eq!(whole, Arrival::Whole(Bytes::from_static(WHOLE)));
        assert_eq!(arrivals.bytes(), WHOLE.len() as u64 + 2);
    });
}

#[test]
fn what_came_outlives_the_process_whole_or_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("site.state");
    receive(&Arrivals::new(Some(&state)), global(), &WHOLE[..10], None);
    let next = Arrivals::new(Some(&state));
    assert_eq!(next.list().unwrap(), begun(&global(), 10));
    receive(&next, global().at(10), &WHOLE[10..], Some(Piece::End));
    let last = Arrivals::new(Some(&state));
    let length = WHOLE.len() as u64;
    assert_eq!(last.list().unwrap(), begun(&global(), length));
    let whole = receive(&last, global().at(length), b"", Some(Piece::End));
    assert_eq!(whole, Arrival::Whole(Bytes::from_static(WHOLE)));
    assert_eq!(last.bytes(), 0);
    last.remove().unwrap();
    last.remove().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_beginning_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::new(Some(&folder.path().join("site.state")));
    receive(&arrivals, global(), &WHOLE[..8], None);
    let path = arrivals.path(&global()).unwrap();
    fs::write(&path, b"xxxxxxxx").unwrap();
    let end = receive(&arrivals, global().at(8), &WHOLE[8..], Some(Piece::End));
    assert_eq!(end, Arrival::Damaged);
    assert_eq!(arrivals.list().unwrap(), []);
    let again = receive(&arrivals, global(), WHOLE, Some(Piece::End));
    assert_eq!(again, Arrival::Whole(Bytes::from_static(WHOLE)));
}

#[test]
fn bytes_behind_a_gap_are_not_taken() {
    both(|arrivals| {
        let end = receive(arrivals, global().at(4), &WHOLE[4..], Some(Piece::End));
        assert_eq!(end, Arrival::Damaged);
        receive(arrivals, global(), &WHOLE[..3], None);
        let end = receive(arrivals, global().at(4), &WHOLE[4..], Some(Piece::End));
        assert_eq!(end, Arrival::Damaged);
    });
}

#[test]
fn a_kind_has_one_content_at_most_and_kinds_do_not_disturb_each_other() {
    both(|arrivals| {
        let anchor = header(TransferKind::Anchor, b"an anchor");
        receive(arrivals, anchor, b"an a", None);
        for old in [&b"one adapter"[..], b"two adapters"] {
            receive(
                arrivals,
                header(TransferKind::GlobalAdapter, old),
                &old[..2],
                None,
            );
        }
        receive(arrivals, global(), &WHOLE[..6], None);
        let mut expected = begun(&anchor, 4);
        expected.extend(begun(&global(), 6));
        assert_eq!(arrivals.list().unwrap(), expected);
    });
}

/// An adapter and the next one in bf16, and the next one's delta with its header.
fn two_rounds(count: u16) -> (Vec<u8>, Vec<u8>, Vec<u8>, TransferHeader) {
    let values = |shift: f32| -> Vec<f32> { (0..count).map(|n| f32::from(n) + shift).collect() };
    let (before, after) = (values(1.0), values(1.01));
    let encoding = aggregation::Encoding::Bf16;
    let (old, new) = (encoding.encode(&before), encoding.encode(&after));
    let side = |values, bytes: &[u8]| aggregation::delta::Travelling {
        values,
        encoding,
        sha256: Digest::of(bytes).0,
    };
    let (base, next) = (side(&before, &old), side(&after, &new));
    let delta = aggregation::delta::between(base, next).unwrap();
    let header = header(TransferKind::GlobalDelta, &delta);
    (old, new, delta, header)
}

#[test]
fn an_adapter_is_rebuilt_from_its_delta_and_is_the_next_base() {
    both(|arrivals| {
        arrivals.keep_base();
        let (old, new, delta, of_delta) = two_rounds(500);
        let base = header(TransferKind::GlobalAdapter, &old);
        receive(arrivals, base, &old, Some(Piece::End));
        assert_eq!(arrivals.list().unwrap(), begun(&base, old.len() as u64));
        // It breaks off, and goes on; the base is here all the while.
        let broken = receive(arrivals, of_delta, &delta[..40], None);
        assert_eq!(broken, Arrival::Part);
        assert_eq!(arrivals.list().unwrap().len(), 2);
        let whole = receive(arrivals, of_delta.at(40), &delta[40..], Some(Piece::End));
        let content = Content::of(&new);
        let bytes = Bytes::from(new.clone());
        assert_eq!(whole, Arrival::Rebuilt(Rebuilt { content, bytes }));
        let next = header(TransferKind::GlobalAdapter, &new);
        assert_eq!(arrivals.list().unwrap(), begun(&next, new.len() as u64));
        assert_eq!(arrivals.bytes() as usize, old.len() + delta.len());
    });
}

#[test]
fn a_delta_whose_base_is_not_here_or_damaged_or_that_is_damaged_is_named_and_dropped() {
    let (old, _, delta, of_delta) = two_rounds(500);
    let reason = |arrivals: &Arrivals, of_delta: TransferHeader, delta: &[u8]| {
        let end = receive(arrivals, of_delta, delta, Some(Piece::End));
        let Arrival::Unusable(Unusable { reason, .. }) = end else {
            panic!("{end:?}");
        };
        reason
    };
    both(|arrivals| {
        arrivals.keep_base();
        let found = reason(arrivals, of_delta, &delta);
        assert_eq!(found, ResendReason::NoBase);
        assert_eq!(arrivals.list().unwrap(), []);
        // Bytes of the announced digest that are no delta, or none of this base: the server's fault.
        let base = header(TransferKind::GlobalAdapter, &old);
        receive(arrivals, base, &old, Some(Piece::End));
        let mut other = delta.clone();
        *other.last_mut().unwrap() ^= 1;
        let mut claims = delta.clone();
        claims[50] ^= 1;
        for bad in [&b"no delta"[..], &delta[..delta.len() - 1], &other, &claims] {
            let of_bad = header(TransferKind::GlobalDelta, bad);
            assert_eq!(reason(arrivals, of_bad, bad), ResendReason::BadDelta);
            assert_eq!(arrivals.list().unwrap(), begun(&base, old.len() as u64));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let arrivals = Arrivals::new(Some(&folder.path().join("site.state")));
    let base = header(TransferKind::GlobalAdapter, &old);
    receive(&arrivals, base, &old, Some(Piece::End));
    let mut damaged = old;
    damaged[7] ^= 1;
    fs::write(arrivals.path(&base).unwrap(), damaged).unwrap();
    let found = reason(&arrivals, of_delta, &delta);
    assert_eq!(found, ResendReason::BaseDamaged);
    // Neither is listed again.
    assert_eq!(arrivals.list().unwrap(), []);
}

#[test]
fn without_deltas_in_the_plan_nothing_whole_stays_in_memory() {
    let arrivals = Arrivals::new(None);
    receive(&arrivals, global(), WHOLE, Some(Piece::End));
    assert_eq!(arrivals.list().unwrap(), []);
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("site.state");
    fs::write(state.with_added_extension("arriving"), "a file").unwrap();
    let (_sender, pieces) = mpsc::channel(1);
    let error = Arrivals::new(Some(&state))
        .receive(&global(), pieces)
        .unwrap_err()
        .to_string();
    assert!(error.contains("site.state.arriving"), "{error}");
}
