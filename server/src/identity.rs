//! The files that say who we are and who is not trusted any more, looked at again while the server runs.
//!
//! A revocation list that is replaced takes effect at once: new handshakes are judged by it, and so are the connections that
//! are up, whatever they are at. A renewed certificate for the same key is used from the next handshake on. Another key is
//! not taken up in mid-run: participants hold a plan that the present key signed. Files that cannot be used change nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use protocol::identity::Role;
use protocol::quic::{TlsFiles, TlsMaterial};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::driver::Event;

/// How long a replaced file may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells the driver of every change of the files, until the run is over.
pub(crate) async fn watch(files: TlsFiles, key: [u8; 32], events: mpsc::Sender<Event>) {
    let mut seen = stamps(&files);
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = stamps(&files);
        if found == seen {
            continue;
        }
        seen = found;
        if events
            .send(Event::Identity(reload(&files, &key)))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Reads the files; an error says why they cannot be used.
fn reload(files: &TlsFiles, key: &[u8; 32]) -> Result<TlsMaterial, String> {
    let material = files.load().map_err(|error| error.to_string())?;
    let checked = material.check(Role::Server, SystemTime::now());
    checked.map_err(|rejection| rejection.to_string())?;
    if material.public_key() == *key {
        Ok(material)
    } else {
        Err(
            "the server's key is another one; restart the server to use it, no round is lost"
                .to_owned(),
        )
    }
}

/// What tells one version of a file from another: when it was written, its length, and which file it is.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let paths = [&files.certificate, &files.key, &files.authority];
    paths
        .into_iter()
        .chain(&files.revocations)
        .map(|path| stamp(path))
        .collect()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
