//! SIGINT and SIGTERM: the first asks for an orderly stop, the second ends the process.

use tokio::sync::oneshot;

use super::exit;

/// Hears the signals for as long as the process lives: whoever sends a second one has waited long enough for what the first began.
pub(super) async fn listen(stop: oneshot::Sender<()>) {
    let Ok(mut signals) = Signals::open() else {
        tracing::warn!("signals cannot be handled: a stop will not be announced to participants");
        return;
    };
    signals.next().await;
    // Without a receiver the run is over.
    let _ = stop.send(());
    tracing::info!("stopping: telling participants");
    signals.next().await;
    std::process::exit(exit::FAILURE.into());
}

/// Resolves when a stop is asked for.
pub(super) async fn stop_asked(stop: oneshot::Receiver<()>) {
    if stop.await.is_err() {
        std::future::pending().await
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn open() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Ctrl-C only.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn open() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
