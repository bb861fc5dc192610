//! A finished update on its way to the disk, while its first bytes may be on their way to the server.
//!
//! The last bytes leave once all is on disk ([`done`]). So what the server has whole outlives this process, and an update of which it has
//! less is of no use to it: a process that lost it trains the round again and offers what comes of that.

use std::{io, path::Path};

use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    task::{JoinHandle, spawn_blocking},
};

use crate::{federate::happening::Happening, state::StateError};

/// A state that is being written.
pub(super) struct Keeping {
    thread: JoinHandle<()>,
    is_done: watch::Receiver<bool>,
}

impl Keeping {
    /// Writes on a blocking thread, and tells how that ended.
    pub(super) fn begin(
        write: impl FnOnce() -> Result<(), StateError> + Send + 'static,
        happenings: UnboundedSender<Happening>,
    ) -> Self {
        let (told, is_done) = watch::channel(false);
        let thread = tokio::spawn(async move {
            let written = spawn_blocking(write).await;
            let written = written.unwrap_or_else(|panic| {
                let source = io::Error::other(panic);
                Err(StateError::io("write", Path::new("of a round"))(source))
            });
            if written.is_ok() {
                told.send_replace(true);
            }
            // Without a receiver the run is over, and its state is removed or written again.
            let _ = happenings.send(Happening::Kept(written));
        });
        Self { thread, is_done }
    }

    /// Waits until nothing is written any more.
    pub(super) async fn ended(self) {
        // What it ended with was reported as a happening.
        let _ = self.thread.await;
    }
}

/// Resolves once what is being kept is on disk, at once if nothing is, and never if it cannot be written: then the run ends.
pub(super) fn done(keeping: Option<&Keeping>) -> impl Future<Output = ()> + Send + use<> {
    let is_done = keeping.map(|keeping| keeping.is_done.clone());
    async move {
        if let Some(mut is_done) = is_done
            && is_done.wait_for(|done| *done).await.is_err()
        {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        sync::mpsc,
        task::{Context, Waker},
    };

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    type Write = Box<dyn FnOnce() -> Result<(), StateError> + Send>;

    fn is_ready(future: Pin<&mut impl Future>) -> bool {
        future
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[tokio::test]
    async fn last_bytes_wait_for_the_disk() {
        let (disk, written) = mpsc::channel();
        let (happenings, mut told) = unbounded_channel();
        let write = move || {
            written.recv().unwrap();
            Ok(())
        };
        let keeping = Keeping::begin(write, happenings);
        let mut waiting = pin!(done(Some(&keeping)));
        assert!(!is_ready(waiting.as_mut()));
        assert!(is_ready(pin!(done(None))));
        disk.send(()).unwrap();
        waiting.await;
        assert!(matches!(told.recv().await, Some(Happening::Kept(Ok(())))));
        done(Some(&keeping)).await;
        keeping.ended().await;
    }

    #[tokio::test]
    async fn last_bytes_of_what_cannot_be_written_never_leave_and_the_file_is_named() {
        let full = || {
            Err(StateError::io("write", Path::new("round.state"))(
                io::ErrorKind::StorageFull.into(),
            ))
        };
        let panics = || panic!("a defect");
        for write in [Box::new(full) as Write, Box::new(panics)] {
            let (happenings, mut told) = unbounded_channel();
            let keeping = Keeping::begin(write, happenings);
            let Some(Happening::Kept(Err(error))) = told.recv().await else {
                panic!("it was written");
            };
            assert!(
                error.to_string().contains("cannot write the state "),
                "{error}"
            );
            let mut waiting = pin!(done(Some(&keeping)));
            keeping.ended().await;
            assert!(!is_ready(waiting.as_mut()));
        }
    }
}
