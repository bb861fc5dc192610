//! Small updates: held in memory, and many in one file.

use aggregation::encoded::ReadAt as _;

use super::*;
use crate::spool::batch::SPARES_MAX;

const ALL: u64 = HELD_BYTES_MAX;
const UPDATES: [&[u8]; 3] = [b"the first", b"second", b"and the third"];

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("updates")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn reads_back(spool: &Spool, header: &TransferHeader) {
    let file = spool.read(header).unwrap();
    assert_eq!(file.content().unwrap(), header.content());
    let kept = spool.kept(header);
    let mut bytes = vec![0; usize::try_from(kept.size().unwrap()).unwrap()];
    kept.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(Content::of(&bytes), header.content());
    file.read_exact_at(&mut bytes[1..], 1).unwrap();
    assert_eq!(Content::of(&bytes), header.content());
}

/// What is said about an update that cannot be read.
fn lost(spool: &Spool, header: &TransferHeader) -> String {
    let error = spool.read(header).unwrap_err();
    assert!(matches!(error, ServerError::UpdateLost { .. }), "{error}");
    error.to_string()
}

#[test]
fn updates_that_wait_together_are_one_file_until_the_last_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    let counted = keep_all(&spool, &UPDATES, 3);
    assert_eq!(names(folder.path()), ["0.batch"]);
    let (again, parts) = open_with(ALL, folder.path(), &counted);
    assert!(parts.is_empty());
    for spool in [&spool, &again] {
        counted.iter().for_each(|header| reads_back(spool, header));
    }
    again.forget(&counted[..1]).unwrap();
    again.forget(&counted[2..]).unwrap();
    reads_back(&again, &counted[1]);
    again.forget(&counted).unwrap();
    again.drop_spares().unwrap();
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn the_file_of_a_batch_that_has_served_is_written_over_by_shorter_and_longer_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    for updates in [&UPDATES[..], &UPDATES[1..2], &[&[7; 900], UPDATES[2]]] {
        // Those that are refused leave it as well.
        keep_all(&spool, updates, 0);
        let counted = keep_all(&spool, updates, updates.len());
        assert_eq!(names(folder.path()), ["0.batch"]);
        let (again, _) = open_with(ALL, folder.path(), &counted);
        for spool in [&spool, &again] {
            counted.iter().for_each(|header| reads_back(spool, header));
        }
        spool.forget(&counted).unwrap();
        lost(&spool, &counted[0]);
    }
    spool.drop_spares().unwrap();
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn few_files_and_only_small_ones_are_kept_to_be_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    let long = keep(&spool, &vec![1; ALL as usize]);
    spool.forget(&[long]).unwrap();
    assert_eq!(files(folder.path()), 0);
    let counted: Vec<_> = (0..SPARES_MAX as u8 + 2)
        .map(|number| keep(&spool, &[number]))
        .collect();
    spool.forget(&counted).unwrap();
    assert_eq!(files(folder.path()), SPARES_MAX);
    // What another process left is of no use to this one.
    let (again, _) = open_with(ALL, folder.path(), &[]);
    assert_eq!(files(folder.path()), 0);
    keep(&again, b"and a new one");
    assert_eq!(names(folder.path()), ["5.batch"]);
}

#[test]
fn a_crash_while_a_file_is_written_over_costs_nothing_that_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    let served = keep_all(&spool, &UPDATES, 3);
    let counted = keep(&spool, b"counted");
    let path = folder.path().join("updates/0.batch");
    let before = fs::read(&path).unwrap();
    spool.forget(&served).unwrap();
    keep_all(&spool, &[b"a newer one", b"and one beside it"], 2);
    let after = fs::read(&path).unwrap();
    assert_eq!(names(folder.path()), ["0.batch", "1.batch"]);
    for written in 0..after.len() {
        let torn = [&after[..written], before.get(written..).unwrap_or_default()];
        fs::write(&path, torn.concat()).unwrap();
        let (again, _) = open_with(ALL, folder.path(), &[counted]);
        assert_eq!(names(folder.path()), ["1.batch"], "{written} bytes");
        reads_back(&again, &counted);
    }
}

#[test]
fn an_update_that_waits_takes_up_room_and_one_that_broke_off_or_is_in_a_file_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(9, folder.path(), &[]);
    let room = Arc::new(Semaphore::new(20));
    let receive = |bytes: &[u8], sent: usize, last| {
        receive_in(&room, &spool, &header(bytes), &bytes[..sent], last)
    };
    let held = receive(b"nine long", 9, Some(Piece::End));
    assert_eq!((room.available_permits(), files(folder.path())), (11, 0));
    let in_file = receive(b"ten or so.", 10, Some(Piece::End));
    assert_eq!((room.available_permits(), files(folder.path())), (11, 1));
    receive(b"broken", 3, None);
    assert_eq!((room.available_permits(), files(folder.path())), (11, 2));
    receive(b"refused", 7, Some(Piece::Spoiled));
    assert_eq!(room.available_permits(), 11);
    drop((held, in_file));
    assert_eq!((room.available_permits(), files(folder.path())), (20, 0));
}

#[test]
fn what_was_refused_beside_others_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    let headers = keep_all(&spool, &UPDATES, 2);
    lost(&spool, &headers[2]);
    let (again, _) = open_with(ALL, folder.path(), &headers[..2]);
    lost(&again, &headers[2]);
    reads_back(&again, &headers[1]);
    again.forget(&headers[..2]).unwrap();
    keep_all(&again, &UPDATES, 0);
    again.drop_spares().unwrap();
    assert_eq!(files(folder.path()), 0, "all were refused");
}

#[test]
fn batches_in_which_nothing_counts_go_at_a_restart_and_no_name_is_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    keep(&spool, b"before a crash");
    let counted = keep(&spool, b"counted");
    fs::write(folder.path().join("updates/07.batch"), b"not of ours").unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[counted]);
    assert_eq!(names(folder.path()), ["1.batch"]);
    let another = keep(&spool, b"another");
    assert_eq!(names(folder.path()), ["1.batch", "2.batch"]);
    reads_back(&spool, &counted);
    reads_back(&spool, &another);
}

#[test]
fn of_an_update_that_came_again_after_a_crash_the_bytes_are_those_that_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    let headers = keep_all(&spool, &UPDATES, 3);
    // The journal knew of the first only.
    let (spool, _) = open_with(ALL, folder.path(), &headers[..1]);
    keep_all(&spool, &UPDATES[1..], 2);
    let (spool, _) = open_with(ALL, folder.path(), &headers);
    assert_eq!(names(folder.path()), ["0.batch", "1.batch"]);
    headers.iter().for_each(|header| reads_back(&spool, header));
    spool.forget(&headers[1..]).unwrap();
    spool.drop_spares().unwrap();
    assert_eq!(names(folder.path()), ["0.batch"]);
}

#[test]
fn files_of_an_earlier_version_and_of_large_updates_are_read_beside_batches() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(folder.path(), &[]);
    let mut counted = vec![keep(&spool, b"in a file of its own")];
    receive(&spool, &header(b"broken off"), b"brok", None);
    let (spool, parts) = open_with(9, folder.path(), &counted);
    assert_eq!(parts[&name()].1, 4);
    // It goes on behind the file that there is of it, however small it is.
    let rest = header(b"broken off").at(4);
    let last = receive(&spool, &rest, b"en off", Some(Piece::End));
    assert!(matches!(last, Arrival::Whole(Upload::File(_))), "{last:?}");
    drop(last);
    counted.extend(keep_all(&spool, &[b"more than nine bytes", b"few"], 2));
    let (again, _) = open_with(9, folder.path(), &counted);
    assert_eq!(files(folder.path()), 3);
    counted.iter().for_each(|header| reads_back(&again, header));
    again.forget(&counted).unwrap();
    again.drop_spares().unwrap();
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn a_batch_cut_off_anywhere_is_named_for_what_it_lost_and_gone_if_nothing_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    let counted = keep_all(&spool, &UPDATES, 3);
    let path = folder.path().join("updates/0.batch");
    let whole = fs::read(&path).unwrap();
    let bodies: usize = UPDATES.iter().map(|bytes| bytes.len()).sum();
    let mut end = whole.len() - bodies;
    let ends = UPDATES.map(|bytes| {
        end += bytes.len();
        end
    });
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (spool, _) = open_with(ALL, folder.path(), &counted);
        assert!(path.exists(), "something in it counts");
        for (header, end) in counted.iter().zip(ends) {
            if end <= length {
                reads_back(&spool, header);
                continue;
            }
            let said = lost(&spool, header);
            let what = if length < whole.len() - bodies {
                "its head cannot be read"
            } else {
                "it ends before"
            };
            let id = header.id.to_string();
            for part in ["updates/0.batch", what, &id] {
                assert!(said.contains(part), "{length}: {said}");
            }
        }
        open_with(ALL, folder.path(), &[]);
        assert!(!path.exists(), "{length}: nothing in it counts");
    }
}

#[test]
fn a_batch_with_any_byte_changed_is_named_and_harms_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    let counted = keep_all(&spool, &UPDATES, 3);
    let other = keep(&spool, b"in another batch");
    let path = folder.path().join("updates/0.batch");
    let whole = fs::read(&path).unwrap();
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        fs::write(&path, changed).unwrap();
        let (spool, _) = open_with(ALL, folder.path(), &[&counted[..], &[other]].concat());
        reads_back(&spool, &other);
        let unread = counted.iter().filter(|header| spool.read(header).is_err());
        let unread: Vec<_> = unread.collect();
        assert!(!unread.is_empty(), "a change at {place} is noticed");
        assert!(lost(&spool, unread[0]).contains("updates/0.batch"));
        let (_, _) = open_with(ALL, folder.path(), &[other]);
        assert_eq!(names(folder.path()), ["1.batch"]);
    }
}

#[test]
fn nothing_is_read_beyond_an_update_in_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open_with(ALL, folder.path(), &[]);
    let counted = keep_all(&spool, &UPDATES, 3);
    let (kept, file) = (spool.kept(&counted[0]), spool.read(&counted[0]).unwrap());
    for (length, offset) in [(10, 0), (1, 9), (9, 1), (1, u64::MAX), (0, 10)] {
        let mut buffer = vec![0; length];
        assert!(kept.read_exact_at(&mut buffer, offset).is_err(), "{offset}");
        assert!(file.read_exact_at(&mut buffer, offset).is_err(), "{offset}");
    }
}
