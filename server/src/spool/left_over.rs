//! What an earlier process left in the folder: what counts is found, beginnings are told of, and the rest is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Condvar, Mutex};

use protocol::message::TransferHeader;
use protocol::{ParticipantName, TransferId};

use super::head::{Head, HeadError};
use super::{BATCH, PART, Spool, remove};
use crate::durable;
use crate::error::ServerError;

/// What an earlier process left behind: how far each participant's update had come.
pub(crate) type Parts = BTreeMap<ParticipantName, (TransferId, u64)>;

impl Spool {
    /// Opens the folder, removes what neither counts nor can be completed, and tells what can.
    ///
    /// No longer update than `held_bytes_max` is held in memory. It must be at most the share of the room that an update gets.
    pub(crate) fn open(
        folder: &Path,
        counted: &[TransferHeader],
        held_bytes_max: u64,
    ) -> Result<(Self, Parts), ServerError> {
        let mut spool = Self {
            folder: folder.to_owned(),
            begun: Mutex::default(),
            free: Condvar::new(),
            batches: Mutex::default(),
            held_bytes_max,
            keeps: true,
            numbers: AtomicU64::new(0),
            has_new_names: AtomicBool::new(false),
        };
        let parts = spool.tidy(counted).map_err(ServerError::write(folder))?;
        let begun = parts.iter().map(|(name, (id, _))| (name.clone(), *id));
        spool.begun().parts.extend(begun);
        Ok((spool, parts))
    }

    fn tidy(&mut self, counted: &[TransferHeader]) -> io::Result<Parts> {
        let counted = counted.iter().map(|header| header.id);
        let mut own: BTreeMap<_, _> = counted.map(|id| (self.update_path(id), id)).collect();
        let (mut parts, mut numbers) = (Parts::new(), Vec::new());
        durable::create_folder(&self.folder)?;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            match (part_of(&path), number_of(&path)) {
                (Some((name, transfer)), _) if !parts.contains_key(&name) => {
                    parts.insert(name, (transfer, entry.metadata()?.len()));
                }
                (_, Some(number)) if self.batch_path(number) == path => numbers.push(number),
                _ if own.remove(&path).is_some() => {}
                _ => fs::remove_file(path)?,
            }
        }
        numbers.sort_unstable();
        let next = numbers.last().map_or(0, |last| last.saturating_add(1));
        self.numbers = AtomicU64::new(next);
        self.find_batches(&numbers, own.into_values().collect())?;
        Ok(parts)
    }

    /// Looks through the batches that an earlier process left for updates that count and have no file of their own, and removes the
    /// others.
    fn find_batches(&self, numbers: &[u64], mut wanted: BTreeSet<TransferId>) -> io::Result<()> {
        let mut batches = self.batches();
        let mut damaged = Vec::new();
        // The newest first: of an update that came twice, the first time was before a crash and counted for nothing.
        for &number in numbers.iter().rev() {
            let path = self.batch_path(number);
            let head = match read_head(&path) {
                Ok(head) => head,
                Err(error) => {
                    damaged.push((path, error.to_string()));
                    continue;
                }
            };
            for (id, place) in head.places() {
                if wanted.remove(&id) {
                    batches.enter(id, number, place);
                }
            }
            if !batches.has(number) {
                remove(&path)?;
            }
        }
        // One that cannot be read is of no use, unless something counts that may be in it.
        for (path, what) in damaged {
            if wanted.is_empty() {
                remove(&path)?;
            } else {
                batches.damaged.get_or_insert((path, what));
            }
        }
        Ok(())
    }
}

fn read_head(path: &Path) -> Result<Head, HeadError> {
    Head::read(&mut File::open(path)?)
}

/// The number of a batch, by the name of its file.
fn number_of(path: &Path) -> Option<u64> {
    let is_batch = path.extension().is_some_and(|extension| extension == BATCH);
    let number = path.file_stem().filter(|_| is_batch)?;
    number.to_str()?.parse().ok()
}

/// Whose part a file is, and of what.
fn part_of(path: &Path) -> Option<(ParticipantName, TransferId)> {
    let name = path
        .file_name()?
        .to_str()?
        .strip_suffix(PART)?
        .strip_suffix('.')?;
    let (participant, transfer) = name.rsplit_once('.')?;
    let mut id = TransferId::default();
    hex::decode_to_slice(transfer, &mut id.0).ok()?;
    Some((participant.parse().ok()?, id))
}
