//! What has arrived of the server's transfers, whole or in part: an interrupted one goes on where it broke off.
//!
//! At most one content of each kind is kept. With a folder its bytes are written there while they come, at most a second behind, so
//! that they outlive the process; they are not synced, because whatever a power cut damages is noticed by the digest and asked for
//! again. What came whole in less than that is not written at all: on such a link it is here again sooner. Without a folder they are
//! kept in memory and outlive the connection only.
//!
//! An adapter that came as a delta is rebuilt here (`rebuild`) from the one before. So, under a plan with deltas, the global
//! adapter stays here while it is in use: on disk however fast it came, in memory it is the one that training reads.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use protocol::{
    Digest,
    message::{Beginning, ResendReason, TransferHeader, TransferKind},
    plan::{Announced, CheckedPlan},
};
use tokio::sync::mpsc;

use self::part::Part;
pub(super) use self::rebuild::{Rebuilt, Unusable};
use crate::{durable, state::StateError};

mod part;
mod rebuild;

const PART: &str = "part";
/// An adapter that is being rebuilt, until it is whole on disk.
const REBUILDING: &str = "rebuilding";

/// A piece of a transfer, or what follows the last.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes, as the packets brought them.
    Bytes(Vec<Bytes>),
    /// There are no more.
    End,
}

/// What became of a transfer's bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Arrival {
    /// They are the content that was announced.
    Whole(Bytes),
    /// They are the delta that was announced, and this is the adapter that it comes to.
    Rebuilt(Rebuilt),
    /// They are the delta that was announced, and no adapter came of it; or none was taken in, because it is no shorter than the
    /// adapter. The delta is not kept.
    Unusable(Unusable),
    /// They broke off; what came is kept.
    Part,
    /// They can be nothing that the run's plan has, by their header. None was taken in.
    Misfit,
    /// With those that were kept they are another content, or those that they go on behind are not here any more. Nothing is kept.
    Damaged,
}

/// The contents that came, or began to.
#[derive(Debug)]
pub(super) struct Arrivals {
    folder: Option<PathBuf>,
    /// Held by the one transfer that is being written.
    memory: Mutex<Memory>,
    /// Whether a global adapter that is whole is kept for deltas against it.
    keeps_base: AtomicBool,
    /// The plan that was agreed to: without one nothing is taken in.
    plan: OnceLock<CheckedPlan>,
    bytes: AtomicU64,
}

/// The last content of each kind that there is no folder for.
type Memory = BTreeMap<TransferKind, (Digest, Bytes)>;

impl Arrivals {
    /// Keeps what arrives in a folder beside the site's state, or in memory.
    pub(super) fn new(state: Option<&Path>) -> Self {
        Self {
            folder: state.map(|state| state.with_added_extension("arriving")),
            memory: Mutex::default(),
            keeps_base: AtomicBool::new(false),
            plan: OnceLock::new(),
            bytes: AtomicU64::new(0),
        }
    }

    /// Bytes that came over the network so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps the global adapter from now on for deltas against it: the plan has them.
    pub(super) fn keep_base(&self) {
        self.keeps_base.store(true, Ordering::Relaxed);
    }

    /// From now on what this plan has is taken in.
    pub(super) fn expect(&self, plan: &CheckedPlan) {
        // There is one plan in a run.
        self.plan.get_or_init(|| plan.clone());
    }

    /// What a transfer comes to of which no byte is to be taken, by its header; it puts nothing out of its place.
    pub(super) fn turn_away(&self, header: &TransferHeader) -> Option<Arrival> {
        match self.plan.get().map(|plan| plan.judge(header)) {
            Some(Announced::Fits) => None,
            Some(Announced::UselessDelta { whole }) => {
                let reason = ResendReason::BadDelta;
                let what = format!(
                    "it is announced with {} bytes, and the whole adapter has {whole}",
                    header.bytes
                );
                Some(Arrival::Unusable(Unusable { reason, what }))
            }
            Some(Announced::Unfit) | None => Some(Arrival::Misfit),
        }
    }

    /// Lists what is here, for a new connection.
    ///
    /// What the last connection is still writing is left out: it will be sent from its first byte.
    ///
    /// # Errors
    /// [`StateError::Io`] names the folder.
    pub(super) fn list(&self) -> Result<Vec<Beginning>, StateError> {
        let Ok(memory) = self.memory.try_lock() else {
            return Ok(Vec::new());
        };
        let Some(folder) = &self.folder else {
            let kept = memory.values();
            return Ok(kept
                .map(|(sha256, bytes)| Beginning {
                    sha256: *sha256,
                    bytes: bytes.len() as u64,
                })
                .collect());
        };
        let list = || -> io::Result<Vec<Beginning>> {
            let mut begun = Vec::new();
            for (path, sha256) in parts(folder)? {
                let bytes = fs::metadata(&path)?.len();
                begun.push(Beginning { sha256, bytes });
            }
            Ok(begun)
        };
        list().map_err(StateError::io("read", folder))
    }

    /// Takes in a transfer's bytes behind those that are kept of its content, until the sender of pieces is dropped.
    ///
    /// Of a delta that is whole the adapter is rebuilt. Waits until the last connection has written what it brought. Blocks: for a
    /// thread of its own.
    ///
    /// # Errors
    /// [`StateError::Io`] names the file.
    pub(super) fn receive(
        &self,
        header: &TransferHeader,
        mut pieces: mpsc::Receiver<Piece>,
    ) -> Result<Arrival, StateError> {
        let mut memory = self.memory();
        let path = self.path(header);
        let failed = || {
            let place = path.as_deref().unwrap_or_else(|| Path::new("memory"));
            StateError::io("keep what arrives in", place)
        };
        let Some(mut part) = self.open(header, &mut memory).map_err(failed())? else {
            return Ok(Arrival::Damaged);
        };
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Bytes(pieces) => {
                    let count = part.write(&pieces).map_err(failed())?;
                    self.bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
                Piece::End if part.is(header) => {
                    let kept = if self.is_base(header) {
                        part.keep()
                    } else {
                        part.keep_rest()
                    };
                    kept.map_err(failed())?;
                    let bytes = Bytes::from(part.into_bytes());
                    return self.whole(header, bytes, &mut memory).map_err(failed());
                }
                Piece::End => {
                    self.remove_others(header.kind, None).map_err(failed())?;
                    return Ok(Arrival::Damaged);
                }
            }
        }
        part.keep().map_err(failed())?;
        if self.folder.is_none() {
            let bytes = Bytes::from(part.into_bytes());
            memory.insert(header.kind, (header.sha256, bytes));
        }
        Ok(Arrival::Part)
    }

    /// Removes everything: the run is over.
    ///
    /// # Errors
    /// [`StateError::Io`] names the folder.
    pub(super) fn remove(&self) -> Result<(), StateError> {
        self.memory().clear();
        match &self.folder {
            Some(folder) => match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(StateError::io("remove", folder)(error))
                }
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// What becomes of a content that is whole.
    fn whole(
        &self,
        header: &TransferHeader,
        bytes: Bytes,
        memory: &mut Memory,
    ) -> io::Result<Arrival> {
        if !header.kind.is_delta() {
            if self.is_base(header) {
                self.remember_base(header.sha256, &bytes, memory);
            }
            return Ok(Arrival::Whole(bytes));
        }
        let base = |digest| self.base(digest, memory);
        match rebuild::rebuild(&bytes, base)? {
            Ok(rebuilt) => {
                // The final adapter is no base. Until it is in safety, its delta and the delta's base are.
                if header.kind == TransferKind::GlobalDelta {
                    self.write_base(&rebuilt)?;
                    self.remember_base(rebuilt.content.sha256, &rebuilt.bytes, memory);
                    self.remove_others(header.kind, None)?;
                }
                Ok(Arrival::Rebuilt(rebuilt))
            }
            Err(unusable) => {
                self.remove_others(header.kind, None)?;
                if unusable.reason == ResendReason::BaseDamaged {
                    self.remove_others(TransferKind::GlobalAdapter, None)?;
                    memory.remove(&TransferKind::GlobalAdapter);
                }
                Ok(Arrival::Unusable(unusable))
            }
        }
    }

    /// The global adapter that is here, if it is this one. On disk it may be there in part only, or damaged.
    fn base(&self, sha256: Digest, memory: &Memory) -> io::Result<Option<Bytes>> {
        let kind = TransferKind::GlobalAdapter;
        let Some(folder) = &self.folder else {
            let held = memory.get(&kind);
            let held = held.filter(|(held, _)| *held == sha256);
            return Ok(held.map(|(_, bytes)| bytes.clone()));
        };
        match fs::read(part_of(folder, kind, sha256)) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a rebuilt adapter in the place of its base on disk, as if it had come whole.
    fn write_base(&self, rebuilt: &Rebuilt) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let (kind, sha256) = (TransferKind::GlobalAdapter, rebuilt.content.sha256);
        let (new, path) = (folder.join(REBUILDING), part_of(folder, kind, sha256));
        fs::write(&new, &rebuilt.bytes)?;
        durable::rename(&new, &path)?;
        self.remove_others(kind, Some(sha256))
    }

    /// Whether the next adapter may come as a delta against this content.
    fn is_base(&self, header: &TransferHeader) -> bool {
        header.kind == TransferKind::GlobalAdapter && self.keeps_base.load(Ordering::Relaxed)
    }

    /// Holds on to an adapter where there is no folder.
    fn remember_base(&self, sha256: Digest, bytes: &Bytes, memory: &mut Memory) {
        if self.folder.is_none() {
            memory.insert(TransferKind::GlobalAdapter, (sha256, bytes.clone()));
        }
    }

    /// Opens what is kept of the content behind its first `offset` bytes; nothing if they are not here.
    fn open(&self, header: &TransferHeader, memory: &mut Memory) -> io::Result<Option<Part>> {
        let Some(path) = self.path(header) else {
            let kept = memory.remove(&header.kind);
            let kept = kept.filter(|(sha256, _)| *sha256 == header.sha256);
            return Part::in_memory(
                header,
                kept.map_or(Vec::new(), |(_, bytes)| Vec::from(bytes)),
            );
        };
        self.remove_others(header.kind, Some(header.sha256))?;
        Part::on_disk(header, &path)
    }

    /// Removes the files of this kind but that of one content.
    fn remove_others(&self, kind: TransferKind, but: Option<Digest>) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        fs::create_dir_all(folder)?;
        for (path, sha256) in parts(folder)? {
            let is_of_kind = path.file_stem().and_then(|stem| stem.to_str());
            let is_of_kind = is_of_kind.is_some_and(|stem| stem.starts_with(kind.label()));
            if is_of_kind && but != Some(sha256) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn path(&self, header: &TransferHeader) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        Some(part_of(folder, header.kind, header.sha256))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file of a content.
fn part_of(folder: &Path, kind: TransferKind, sha256: Digest) -> PathBuf {
    folder.join(format!("{}.{sha256}.{PART}", kind.label()))
}

/// The files of the folder, with the digest of what each is the beginning of. Other files are not ours to touch.
fn parts(folder: &Path) -> io::Result<Vec<(PathBuf, Digest)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut parts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let sha256 = name
            .and_then(|name| name.strip_suffix(PART)?.strip_suffix('.'))
            .and_then(|name| name.rsplit_once('.')?.1.parse().ok());
        parts.extend(sha256.map(|sha256| (path, sha256)));
    }
    parts.sort();
    Ok(parts)
}

#[cfg(test)]
mod tests;
