//! An exchange from its certificates to its figures: one process a party, or all in one.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use certs::throwaway::Federation;
use client::{Settings, Unobserved};
use protocol::quic::TlsMaterial;
use server::{RunEvent, Server};
use tokio::task::JoinSet;

use super::figures::{Figures, Timeline};
use super::parties::{self, Line};
use super::scenario::Scenario;
use super::usage;
use crate::memory;

/// How the parties are spread over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Processes {
    /// All in this one.
    One,
    /// The server in one, all participants in another.
    Two,
    /// Each in its own.
    OnePerParty,
}

/// Does the exchange; everything it writes is in `folder`.
///
/// # Errors
/// If a party fails; the error names it.
pub fn run(scenario: Scenario, folder: &Path, processes: Processes) -> anyhow::Result<Figures> {
    ensure!(
        scenario.rounds >= 2,
        "two rounds at least: the first is left out of the figures"
    );
    scenario.write_start(&folder.join("start"))?;
    let federation = Federation::create("exchange", &scenario.names())
        .context("certificates of the throw-away federation cannot be made")?;
    let (timeline, peaks) = if processes == Processes::One {
        together(&scenario, &federation, folder)?
    } else {
        federation.write(&folder.join("certificates"))?;
        apart(&scenario, folder, processes)?
    };
    let error = scenario.error(folder)?;
    Figures::new(scenario, processes, &timeline, &peaks, error)
}

/// All parties in this process.
fn together(
    scenario: &Scenario,
    federation: &Federation,
    folder: &Path,
) -> anyhow::Result<(Timeline, Vec<u64>)> {
    memory::avoid_huge_pages().context("the size of memory pages cannot be chosen")?;
    let config = scenario.server(tls(federation.server())?, folder)?;
    let timeline = Arc::new(Mutex::new(Timeline::default()));
    let noted = Arc::clone(&timeline);
    let observer = move |event: &RunEvent| {
        if let RunEvent::RoundFinished(record) = event {
            let cpu_seconds = usage::cpu_seconds(std::process::id());
            let mut timeline = noted.lock().unwrap_or_else(PoisonError::into_inner);
            timeline.note(record.seconds, cpu_seconds, record.bytes_down);
        }
    };
    parties::runtime()?.block_on(async {
        let server = Server::bind(config)?;
        let address = server.address().to_string();
        let mut participants = JoinSet::new();
        for (index, material) in (0..).zip(federation.participants()) {
            let (scenario, settings) = (*scenario, Settings::new(&address, tls(material)?));
            participants.spawn(async move {
                parties::answer(&scenario, settings, index, Arc::new(Unobserved))
                    .await
                    .map(drop)
            });
        }
        let answering = async {
            while let Some(ended) = participants.join_next().await {
                ended.context("a participant broke off")??;
            }
            Ok(())
        };
        let serving = async {
            server
                .run(Arc::new(observer), std::future::pending())
                .await
                .context("the server")
        };
        tokio::try_join!(serving, answering)
    })?;
    let timeline = std::mem::take(&mut *timeline.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((timeline, vec![memory::peak_bytes().unwrap_or(0)]))
}

pub(super) fn tls(material: &certs::throwaway::Material) -> anyhow::Result<TlsMaterial> {
    let list = Some(material.revocations.as_str());
    Ok(TlsMaterial::from_pem(
        &material.certificate,
        &material.key,
        &material.authority,
        list,
    )?)
}

/// The server in a process of its own, the participants in one or in one each.
fn apart(
    scenario: &Scenario,
    folder: &Path,
    processes: Processes,
) -> anyhow::Result<(Timeline, Vec<u64>)> {
    let mut server = Party::start(scenario, folder, &["server"])?;
    let Line::Listening { address } = server.next()? else {
        anyhow::bail!("the server did not begin with its address");
    };
    let mut parties = vec![server];
    let participant = ["participant", "--server", address.as_str()];
    if processes == Processes::Two {
        parties.push(Party::start(scenario, folder, &participant)?);
    } else {
        for index in 0..scenario.participants.get() {
            let index = index.to_string();
            let mut arguments = participant.to_vec();
            arguments.extend(["--index", index.as_str()]);
            parties.push(Party::start(scenario, folder, &arguments)?);
        }
    }
    let mut timeline = Timeline::default();
    let mut peaks = Vec::new();
    loop {
        match parties[0].next()? {
            Line::RoundFinished {
                seconds,
                bytes_down,
            } => {
                let cpu_seconds = parties.iter().map(Party::cpu_seconds).sum();
                timeline.note(seconds, cpu_seconds, bytes_down);
            }
            Line::Done { peak_bytes } => break peaks.push(peak_bytes),
            Line::Listening { .. } => {}
        }
    }
    for party in &mut parties[1..] {
        match party.next()? {
            Line::Done { peak_bytes } => peaks.push(peak_bytes),
            line => anyhow::bail!("{} said {line:?}", party.name),
        }
    }
    for party in parties {
        party.end()?;
    }
    Ok((timeline, peaks))
}

/// The process of one party; it is killed if it is dropped before its end.
struct Party {
    name: String,
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Party {
    fn start(scenario: &Scenario, folder: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let name = arguments.join(" ");
        let program = std::env::current_exe().context("this program cannot be found")?;
        let Scenario {
            participants,
            megabytes,
            tensors,
            rounds,
            transfer,
            download,
            sums,
        } = scenario;
        let mut command = Command::new(program);
        command
            .arg("bench")
            .args(arguments)
            .arg("--folder")
            .arg(folder);
        for (option, value) in [
            ("--participants", participants.to_string()),
            ("--megabytes", megabytes.to_string()),
            ("--tensors", tensors.to_string()),
            ("--rounds", rounds.to_string()),
            ("--transfer", format!("{transfer:?}").to_lowercase()),
            ("--download", format!("{download:?}").to_lowercase()),
            ("--sums", format!("{sums:?}").to_lowercase()),
        ] {
            command.args([option, &value]);
        }
        if arguments == ["server"] {
            command.envs([super::SERVER_MEMORY]);
        }
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("the {name} cannot be started"))?;
        let lines = process.stdout.take().context("its output was piped")?;
        Ok(Self {
            name,
            process,
            lines: BufReader::new(lines),
        })
    }

    fn next(&mut self) -> anyhow::Result<Line> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        ensure!(
            !line.is_empty(),
            "the {} ended early; its reason is above",
            self.name
        );
        serde_json::from_str(&line).with_context(|| format!("the {} said {line:?}", self.name))
    }

    fn cpu_seconds(&self) -> f64 {
        usage::cpu_seconds(self.process.id())
    }

    fn end(mut self) -> anyhow::Result<()> {
        let status = self.process.wait()?;
        ensure!(status.success(), "the {} ended with {status}", self.name);
        Ok(())
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        // Gone already, unless something went wrong elsewhere.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
