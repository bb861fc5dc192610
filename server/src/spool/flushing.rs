//! The beginning of an update is put on disk while the rest arrives, so that little is left to wait for when it is whole.

use std::fs::File;
use std::io;
use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};

/// Bytes that are worth a flush: few flushes, and a disk that is never asked for much at once.
const STEP_BYTES: u64 = 8 << 20;

/// The flushes of one file, one at a time.
#[derive(Debug, Default)]
pub(super) struct Flushing {
    /// How much had been written when the last one began.
    begun_at: u64,
    under_way: Option<JoinHandle<io::Result<()>>>,
}

impl Flushing {
    /// Begins to flush what was written, if that is enough and the disk is done with what was before.
    ///
    /// # Errors
    /// What the system says, also of the flush before.
    pub(super) fn follow(&mut self, file: &File, written: u64) -> io::Result<()> {
        let under_way = self.under_way.as_ref();
        let is_busy = under_way.is_some_and(|thread| !thread.is_finished());
        if is_busy || written < self.begun_at + STEP_BYTES {
            return Ok(());
        }
        std::mem::take(self).finish()?;
        let file = file.try_clone()?;
        self.begun_at = written;
        self.under_way = Some(thread::spawn(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the flush that is under way.
    ///
    /// # Errors
    /// What the system said: to nobody else, so it must be asked for before the file is relied on.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.under_way {
            Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_flush_begins_at_every_step_and_what_it_says_is_heard() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100]).unwrap();
        let mut flushing = Flushing::default();
        flushing.follow(&file, STEP_BYTES - 1).unwrap();
        assert!(flushing.under_way.is_none());
        flushing.follow(&file, STEP_BYTES).unwrap();
        assert!(flushing.under_way.is_some());
        flushing.finish().unwrap();
        // A disk that says no.
        let failing = || Err(io::ErrorKind::StorageFull.into());
        let full = || Flushing {
            begun_at: 0,
            under_way: Some(thread::spawn(failing)),
        };
        assert_eq!(
            full().finish().unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        let mut followed = full();
        while !followed.under_way.as_ref().unwrap().is_finished() {
            thread::yield_now();
        }
        let error = followed.follow(&file, STEP_BYTES).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
