//! What a site keeps of a run's transcript: the updates that the server acknowledged and the records it showed, a line each.
//!
//! The file of a run lies beside the site's state and is named after the plan. It only grows, and a line is on disk before
//! anything is built on it, so that a server cannot tell this site another story after a restart. It outlives the run: renamed
//! when the run is over, it shows what the server signed. Without a state file nothing is kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use protocol::{
    Digest, ParticipantName,
    transcript::{Evidence, TranscriptFault, Witness},
};

use crate::durable;

/// The evidence of one run, open for more.
#[derive(Debug)]
pub(crate) struct EvidenceFile {
    path: PathBuf,
    file: File,
}

/// Evidence that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The operating system refused.
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A line is not one that was written, or does not follow from those before it.
    #[error(
        "line {line} of what this site keeps of the transcript, {}, is damaged: {what}; restore the file, or remove it to trust \
         what the server shows from its first record on", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

impl EvidenceFile {
    /// Opens the evidence of a run, or begins it, and gives a witness that remembers it.
    ///
    /// # Errors
    /// [`EvidenceError`] names the file.
    pub(crate) fn open(
        state: &Path,
        plan: Digest,
        name: &ParticipantName,
    ) -> Result<(Self, Witness), EvidenceError> {
        let path = path(state, plan);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed("make the folder of", &path))?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        // It may be new: what is written to it must not be in a file without a name.
        durable::sync_folder_of(&path).map_err(failed("make durable", &path))?;
        let text = fs::read(&path).map_err(failed("read", &path))?;
        // A line that a crash cut off was never built on.
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64)
                .and_then(|()| file.sync_all())
                .map_err(failed("write", &path))?;
        }
        let mut witness = Witness::new(plan, name);
        for (number, line) in text[..whole]
            .split_inclusive(|&byte| byte == b'\n')
            .enumerate()
        {
            recall(&mut witness, line).map_err(|what| EvidenceError::Damaged {
                path: path.clone(),
                line: number + 1,
                what,
            })?;
        }
        Ok((Self { path, file }, witness))
    }

    /// Adds a line, durably.
    ///
    /// # Errors
    /// [`EvidenceError::Io`], also if the file was moved away or replaced.
    pub(crate) fn append(&mut self, evidence: &Evidence) -> Result<(), EvidenceError> {
        let mut write = || -> io::Result<()> {
            durable::check_is_there(&self.file, &self.path)?;
            let mut line = serde_json::to_vec(evidence)?;
            line.push(b'\n');
            self.file.write_all(&line)?;
            self.file.sync_data()
        };
        write().map_err(failed("write", &self.path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the evidence of a run that is over aside. That of an earlier run of the same plan is replaced.
    ///
    /// # Errors
    /// [`EvidenceError::Io`].
    pub(crate) fn finish(&self) -> Result<(), EvidenceError> {
        let done = self.path.with_added_extension("done");
        durable::rename(&self.path, &done).map_err(failed("rename", &self.path))
    }
}

fn recall(witness: &mut Witness, line: &[u8]) -> Result<(), String> {
    let evidence: Evidence = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    witness
        .recall(&evidence)
        .map_err(|fault: TranscriptFault| fault.to_string())
}

/// `adapter.state` of the plan 1234... has `adapter.1234567812345678.transcript`.
fn path(state: &Path, plan: Digest) -> PathBuf {
    beside(state, plan, "transcript")
}

/// A file of one run beside the file of the site's state.
pub(crate) fn beside(state: &Path, plan: Digest, kind: &str) -> PathBuf {
    let of_plan: String = plan.to_string().chars().take(16).collect();
    state.with_extension(format!("{of_plan}.{kind}"))
}

fn failed<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> EvidenceError + 'a {
    move |source| EvidenceError::Io {
        verb,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Round, transcript::Claim};

    use super::*;

    const PLAN: Digest = Digest([0xab; 32]);

    fn accepted(round: u32) -> Evidence {
        Evidence::Accepted(Claim {
            plan: PLAN,
            round: Round(round),
            update: Digest([1; 32]),
            weight: 7,
        })
    }

    fn open(state: &Path) -> Result<EvidenceFile, EvidenceError> {
        EvidenceFile::open(state, PLAN, &"a".parse().unwrap()).map(|(file, _)| file)
    }

    #[test]
    fn lines_outlive_the_process_and_one_that_a_crash_cut_off_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("new").join("site.state");
        open(&state).unwrap().append(&accepted(1)).unwrap();
        let path = folder.path().join("new/site.abababababababab.transcript");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, [&whole[..], &whole[..cut]].concat()).unwrap();
            open(&state).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        let file = open(&state).unwrap();
        file.finish().unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(path.with_added_extension("done")).unwrap(), whole);
    }

    #[test]
    #[cfg(unix)]
    fn nothing_is_added_to_a_file_that_was_moved_away_or_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("site.state");
        let mut file = open(&state).unwrap();
        let path = folder.path().join("site.abababababababab.transcript");
        let moved = path.with_extension("moved");
        fs::rename(&path, &moved).unwrap();
        file.append(&accepted(1)).unwrap_err();
        fs::copy(&moved, &path).unwrap();
        let refused = file.append(&accepted(1)).unwrap_err().to_string();
        assert!(
            refused.contains("another file has taken its name"),
            "{refused}"
        );
        fs::rename(&moved, &path).unwrap();
        file.append(&accepted(1)).unwrap();
    }

    #[test]
    fn a_line_that_was_not_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("site.state");
        let mut file = open(&state).unwrap();
        file.append(&accepted(1)).unwrap();
        file.append(&accepted(2)).unwrap();
        let path = file.path().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("accepted", "excepted", 1)).unwrap();
        let error = open(&state).unwrap_err().to_string();
        assert!(error.contains("line 1 of"), "{error}");
        assert!(error.contains("site.abababababababab.transcript"));
    }
}
