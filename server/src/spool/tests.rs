//! Parts, wholes and updates over interruptions and restarts.

use std::sync::Arc;

use protocol::message::Content;
use protocol::{Digest, Round};
use tokio::sync::Semaphore;

use super::*;

mod batches;

/// All in files, and all in memory.
const EITHER: [u64; 2] = [0, HELD_BYTES_MAX];

fn name() -> ParticipantName {
    "north".parse().unwrap()
}

fn header(bytes: &[u8]) -> TransferHeader {
    TransferHeader::update(&name(), Round(1), Digest([1; 32]), Content::of(bytes))
}

/// A spool that holds updates up to a length in memory.
fn open_with(held_bytes_max: u64, folder: &Path, counted: &[TransferHeader]) -> (Spool, Parts) {
    Spool::open(&folder.join("updates"), counted, held_bytes_max).unwrap()
}

/// A spool that has all in files.
fn open(folder: &Path, counted: &[TransferHeader]) -> (Spool, Parts) {
    open_with(0, folder, counted)
}

/// Hands over pieces and, if it came so far, the end.
fn receive(spool: &Spool, header: &TransferHeader, bytes: &[u8], last: Option<Piece>) -> Arrival {
    let room = Arc::new(Semaphore::new(1 << 20));
    receive_in(&room, spool, header, bytes, last)
}

fn receive_in(
    room: &Arc<Semaphore>,
    spool: &Spool,
    header: &TransferHeader,
    bytes: &[u8],
    last: Option<Piece>,
) -> Arrival {
    let (sender, pieces) = tokio::sync::mpsc::channel(64);
    for chunk in bytes.chunks(3.max(bytes.len() / 32)) {
        sender
            .try_send(Piece::Bytes(vec![chunk.to_vec().into()]))
            .unwrap();
    }
    if let Some(last) = last {
        sender.try_send(last).unwrap();
    }
    drop(sender);
    let share = u32::try_from(header.bytes).unwrap();
    let share = Arc::clone(room).try_acquire_many_owned(share).unwrap();
    spool.receive(&name(), header, pieces, share).unwrap()
}

fn upload(spool: &Spool, bytes: &[u8]) -> (TransferHeader, Upload) {
    let header = header(bytes);
    let Arrival::Whole(upload) = receive(spool, &header, bytes, Some(Piece::End)) else {
        panic!("it was whole");
    };
    (header, upload)
}

/// Keeps updates as the folding thread does, the first `counted` of which it admits.
fn keep_all(spool: &Spool, updates: &[&[u8]], counted: usize) -> Vec<TransferHeader> {
    let arrived = updates.iter().map(|bytes| upload(spool, bytes));
    let arrived: Vec<_> = arrived.collect();
    let batch = spool.batch(arrived.iter().map(|(header, upload)| (header, upload)));
    let batch = batch.unwrap();
    batch.write().unwrap();
    for (header, upload) in &arrived[..counted] {
        spool.keep(header, upload, &batch).unwrap();
    }
    let headers: Vec<_> = arrived.iter().map(|(header, _)| *header).collect();
    let admitted = headers[..counted].iter().map(|header| header.id);
    spool.enter(&batch, &admitted.collect()).unwrap();
    spool.sync().unwrap();
    headers
}

fn keep(spool: &Spool, bytes: &[u8]) -> TransferHeader {
    keep_all(spool, &[bytes], 1)[0]
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder.join("updates")).unwrap().count()
}

#[test]
fn what_is_kept_reads_back_and_only_what_counts_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), &[]);
    let counted = keep(&spool, b"counted");
    keep(&spool, b"stray");
    fs::write(
        folder.path().join("updates/north.7.whole"),
        "judged by nobody",
    )
    .unwrap();
    let (spool, parts) = open(folder.path(), &[counted]);
    assert_eq!((files(folder.path()), parts.len()), (1, 0));
    assert_eq!(
        spool.read(&counted).unwrap().content().unwrap(),
        counted.content()
    );
    spool.forget(&[counted, header(b"never there")]).unwrap();
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn a_part_goes_on_where_it_broke_off_also_after_a_restart() {
    for held in EITHER {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = open_with(held, folder.path(), &[]);
        let whole = b"twelve bytes";
        let header = header(whole);
        assert!(matches!(
            receive(&spool, &header, &whole[..5], None),
            Arrival::Part(5)
        ));
        let (spool, parts) = open_with(held, folder.path(), &[]);
        assert_eq!(parts, Parts::from([(name(), (header.id, 5))]));
        assert!(matches!(
            receive(&spool, &header.at(5), &whole[5..9], None),
            Arrival::Part(9)
        ));
        // The sender may begin before the end of what is kept.
        let last = receive(&spool, &header.at(7), &whole[7..], Some(Piece::End));
        assert!(matches!(last, Arrival::Whole(_)), "{last:?}");
        drop(last);
        assert_eq!(
            files(folder.path()),
            0,
            "an upload that nobody keeps is removed"
        );
    }
}

#[test]
fn beginnings_go_with_their_round_and_what_counts_stays() {
    for held in EITHER {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = open_with(held, folder.path(), &[]);
        let counted = keep(&spool, b"counted");
        receive(&spool, &header(b"broken off"), b"brok", None);
        assert_eq!(files(folder.path()), 2);
        spool.drop_parts().unwrap();
        assert_eq!(files(folder.path()), 1);
        spool.read(&counted).unwrap();
    }
}

#[test]
fn a_participant_has_one_part_at_most() {
    for held in EITHER {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = open_with(held, folder.path(), &[]);
        for bytes in [b"one beginning", b"two beginning", b"and a third.."] {
            receive(&spool, &header(bytes), &bytes[..3], None);
            assert_eq!(files(folder.path()), 1);
        }
    }
}

#[test]
fn bytes_other_than_announced_are_not_kept() {
    for held in EITHER {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = open_with(held, folder.path(), &[]);
        let header = header(b"announced");
        for (bytes, last) in [
            (&b"announceD"[..], Piece::End),
            (b"announce", Piece::End),
            (b"announced and more", Piece::End),
            (b"announced", Piece::Spoiled),
        ] {
            assert!(matches!(
                receive(&spool, &header, bytes, Some(last)),
                Arrival::Other
            ));
            assert_eq!(files(folder.path()), 0);
        }
    }
}

#[test]
fn what_goes_on_behind_more_than_is_here_is_refused_before_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), &[]);
    let whole = b"twelve bytes";
    let header = header(whole);
    receive(&spool, &header, &whole[..5], None);
    // It may have been written anew on a newer connection.
    let behind = receive(&spool, &header.at(7), &whole[7..], Some(Piece::End));
    assert!(matches!(behind, Arrival::Other), "{behind:?}");
    assert_eq!(files(folder.path()), 0);
    let anew = receive(&spool, &header, whole, Some(Piece::End));
    assert!(matches!(anew, Arrival::Whole(_)), "{anew:?}");
}

#[test]
fn a_lost_or_changed_update_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), &[]);
    let missing = spool.read(&header(b"counted")).unwrap_err();
    assert!(
        matches!(missing, ServerError::UpdateLost { .. }),
        "{missing}"
    );
    let header = keep(&spool, b"counted");
    fs::write(spool.update_path(header.id), b"c0unted").unwrap();
    let changed = spool.read(&header).unwrap_err().to_string();
    assert!(changed.contains(&header.id.to_string()), "{changed}");
    assert!(
        changed.contains("not those that were accepted"),
        "{changed}"
    );
}
