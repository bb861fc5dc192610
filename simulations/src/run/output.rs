//! The files a simulation leaves: summary.json, rounds.jsonl, rounds-without-ewc.jsonl, steps.jsonl, adapter/, report.html, data/,
//! start/, anchor.safetensors, runs/, and ledgers/ of a private run.

use std::path::{Path, PathBuf};

use aggregation::Adapter;
use aggregation::peft::{self, Sidecar};
use anyhow::Context as _;
use finetune::base::BaseModel;
use serde::Serialize;

use crate::federation::FederatedOutcome;
use crate::report::Report;
use crate::summary::{RoundRecord, StepRecord, Summary};
use crate::text::Text;

/// The folder of one simulation.
pub(super) struct Output {
    folder: PathBuf,
}

impl Output {
    pub(super) fn create(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("output folder {} cannot be made", folder.display()))?;
        // The server would go on from them, and the simulated sites keep nothing to go on from.
        anyhow::ensure!(
            !folder.join("runs").exists(),
            "{} has the runs of an earlier simulation: choose another --out, or remove it",
            folder.display()
        );
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the adapter that the runs start from, as `foedus-client adapter new` would.
    pub(super) fn start_folder(
        &self,
        start: &Adapter,
        base: &BaseModel,
        dropout: f64,
    ) -> anyhow::Result<PathBuf> {
        let folder = self.path("start");
        let files = peft::save(start, &base.name, dropout);
        let sidecar = Sidecar {
            base_fingerprint: base.fingerprint,
            base_name: base.name.clone(),
        };
        write(&folder.join("adapter_config.json"), &files.config_json)?;
        write(
            &folder.join("adapter_model.safetensors"),
            &files.safetensors,
        )?;
        write(&folder.join("foedus.json"), &sidecar.to_json())?;
        Ok(folder)
    }

    /// Writes everything that is known at the end.
    pub(super) fn write(
        &self,
        summary: &Summary,
        without: &FederatedOutcome,
        federated: &FederatedOutcome,
        steps: &[StepRecord],
        text: &Text,
    ) -> anyhow::Result<()> {
        let rounds = round_records(federated)?;
        let rounds_without_ewc = round_records(without)?;
        self.write_rounds("rounds.jsonl", federated)?;
        self.write_rounds("rounds-without-ewc.jsonl", without)?;
        self.write_lines("steps.jsonl", steps)?;
        self.copy_adapter(&federated.server.adapter_folder)?;
        let json = serde_json::to_vec_pretty(summary).context("a summary is JSON")?;
        write(&self.path("summary.json"), &json)?;
        let institutions: Vec<(String, String)> = text
            .institutions
            .iter()
            .map(|one| (one.name.clone(), one.description.clone()))
            .collect();
        let report = Report {
            summary,
            rounds: &rounds,
            rounds_without_ewc: &rounds_without_ewc,
            steps,
            institutions: &institutions,
        };
        write(&self.path("report.html"), report.to_html().as_bytes())
    }

    fn write_rounds(&self, name: &str, run: &FederatedOutcome) -> anyhow::Result<()> {
        self.write_lines(name, &run.server.records)
    }

    fn write_lines<T: Serialize>(&self, name: &str, records: &[T]) -> anyhow::Result<()> {
        let lines: Vec<String> = records
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()?;
        write(&self.path(name), (lines.join("\n") + "\n").as_bytes())
    }

    fn copy_adapter(&self, from: &Path) -> anyhow::Result<()> {
        let entries = std::fs::read_dir(from)
            .with_context(|| format!("the server's adapter {} cannot be read", from.display()))?;
        for entry in entries {
            let path = entry?.path();
            let bytes = std::fs::read(&path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            let name = path
                .file_name()
                .context("an entry of a folder has a name")?;
            write(&self.path("adapter").join(name), &bytes)?;
        }
        Ok(())
    }
}

/// The server's records as the report reads them: through their JSON, the form people get, too.
fn round_records(run: &FederatedOutcome) -> anyhow::Result<Vec<RoundRecord>> {
    run.server
        .records
        .iter()
        .map(|record| {
            let mut read: RoundRecord = serde_json::from_value(serde_json::to_value(record)?)?;
            read.update_rounding = run.update_rounding.get(&read.round).copied();
            Ok(read)
        })
        .collect::<Result<_, serde_json::Error>>()
        .context("a round of the server has another form than the report knows")
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, bytes))
        .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_an_earlier_simulation_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        Output::create(folder.path()).unwrap();
        Output::create(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("runs")).unwrap();
        let refused = Output::create(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("choose another --out"), "{refused}");
        assert!(
            refused.contains(&folder.path().display().to_string()),
            "{refused}"
        );
    }
}
