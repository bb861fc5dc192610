//! The parties of an exchange, each as a process of its own would run it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use client::{DeviceTurn, Observer, Outcome, Settings, Shutdown, Unobserved};
use protocol::quic::{TlsFiles, TlsMaterial};
use serde::{Deserialize, Serialize};
use server::{RunEvent, Server};
use tokio::task::JoinSet;

use super::constant::ConstantSite;
use super::moves::Moves;
use super::scenario::Scenario;
use crate::answer::say;
use crate::memory;

/// What a party tells the process that started it, a JSON line each.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum Line {
    /// The server listens.
    Listening { address: String },
    /// A round is done.
    RoundFinished { seconds: f64, bytes_down: u64 },
    /// The party is done.
    Done { peak_bytes: u64 },
}

impl Line {
    fn tell(&self) {
        let line = serde_json::to_string(self).expect("a line has no map with odd keys");
        // Without the process that listens there is nobody to measure for.
        let _ = say!("{line}");
    }

    fn done() -> Self {
        Self::Done {
            peak_bytes: memory::peak_bytes().unwrap_or(0),
        }
    }
}

/// Is the server: serves the scenario's one run out of `folder`.
///
/// # Errors
/// Whatever ends the run.
pub fn serve(scenario: &Scenario, folder: &Path) -> anyhow::Result<()> {
    memory::avoid_huge_pages().context("the size of memory pages cannot be chosen")?;
    let config = scenario.server(tls(folder, "server")?, folder)?;
    runtime()?.block_on(async {
        let server = Server::bind(config)?;
        let observer = |event: &RunEvent| match event {
            RunEvent::Listening { address, .. } => {
                Line::Listening {
                    address: address.to_string(),
                }
                .tell();
            }
            RunEvent::RoundFinished(record) => {
                Line::RoundFinished {
                    seconds: record.seconds,
                    bytes_down: record.bytes_down,
                }
                .tell();
            }
            _ => {}
        };
        server.run(Arc::new(observer), std::future::pending()).await
    })?;
    Line::done().tell();
    Ok(())
}

/// Is participant `index` of the run at `server`, or all of them.
///
/// # Errors
/// Whatever ends a part.
pub fn take_part(
    scenario: &Scenario,
    folder: &Path,
    server: &str,
    index: Option<u32>,
) -> anyhow::Result<()> {
    let names = scenario.names();
    if index.is_none() {
        memory::avoid_huge_pages().context("the size of memory pages cannot be chosen")?;
    }
    let indices = index.map_or_else(|| 0..scenario.participants.get(), |index| index..index + 1);
    runtime()?.block_on(async {
        let mut parts = JoinSet::new();
        for index in indices {
            let name = &names[index as usize];
            let mut settings = Settings::new(server, tls(folder, name)?);
            settings.state = Some(folder.join(format!("{name}.state")));
            let scenario = *scenario;
            let observer = Arc::new(Unobserved);
            parts.spawn(async move { answer(&scenario, settings, index, observer).await });
        }
        while let Some(ended) = parts.join_next().await {
            ended.context("a participant broke off")??;
        }
        anyhow::Ok(())
    })?;
    Line::done().tell();
    Ok(())
}

/// Takes part in a run on the present runtime.
pub(super) async fn answer(
    scenario: &Scenario,
    mut settings: Settings,
    index: u32,
    observer: Arc<dyn Observer>,
) -> anyhow::Result<Outcome> {
    let moves = Moves::of(scenario);
    let site = ConstantSite {
        layout: scenario.layout()?,
        moves,
        share: moves.share(index),
        weight: Scenario::weight(index),
    };
    settings.transfer_bytes_max = u64::MAX;
    let turn = DeviceTurn::new();
    let taking_part =
        client::participate(settings, Arc::new(site), turn, observer, Shutdown::never());
    taking_part
        .await
        .with_context(|| format!("participant {index}"))
}

fn tls(folder: &Path, name: &str) -> anyhow::Result<TlsMaterial> {
    let folder = folder.join("certificates");
    let files = TlsFiles {
        certificate: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
        authority: folder.join("ca.crt"),
        revocations: Some(folder.join("crl.pem")),
    };
    Ok(files.load()?)
}

/// The runtime of a program: as many threads as the machine has cores.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}
