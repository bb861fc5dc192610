use std::fs;

use aggregation::peft::{self, Sidecar};
use aggregation::{Adapter, AdapterLayout, ModuleLayout};
use certs::throwaway::Federation;

use protocol::Digest;

use super::*;
use crate::journal::{Identity, Journal};
use crate::record::JOURNAL_FILE;

/// A folder with certificates, a start folder and a configuration with this text after the required keys.
fn folder(more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    Federation::create("trial", &["north"])
        .unwrap()
        .write(&at("certs"))
        .unwrap();
    fs::create_dir(at("start")).unwrap();
    write_start(&at("start"), &[0]);
    let text = format!(
        "[identity]\ncertificate = \"certs/server.crt\"\nkey = \"certs/server.key\"\nauthority = \"certs/ca.crt\"\n\
         revocations = \"certs/crl.pem\"\n[run]\nname = \"trial\"\nstart = \"start\"\n{more}"
    );
    fs::write(at("server.toml"), text).unwrap();
    folder
}

/// Writes an adapter on the queries of these layers.
fn write_start(start: &Path, layers: &[u32]) {
    let modules = layers.iter().map(|layer| ModuleLayout {
        name: format!("model.layers.{layer}.self_attn.q_proj"),
        in_features: 3,
        out_features: 2,
    });
    let layout = AdapterLayout::new(2, 4.0, false, modules.collect()).unwrap();
    let files = peft::save(&Adapter::zeros(Arc::new(layout)), "tiny", 0.0);
    let sidecar = Sidecar {
        base_fingerprint: [1; 32],
        base_name: "tiny".to_owned(),
    };
    fs::write(start.join("adapter_config.json"), files.config_json).unwrap();
    fs::write(start.join("adapter_model.safetensors"), files.safetensors).unwrap();
    fs::write(start.join("foedus.json"), sidecar.to_json()).unwrap();
}

fn arguments(folder: &tempfile::TempDir, more: &[&str]) -> Arguments {
    let config = folder.path().join("server.toml");
    let mut all = vec![
        "foedus-server".to_owned(),
        "--config".to_owned(),
        config.display().to_string(),
    ];
    all.extend(more.iter().map(ToString::to_string));
    Arguments::try_parse_from(all).unwrap()
}

fn said(folder: &tempfile::TempDir, more: &[&str]) -> Result<String, Failure> {
    let mut out = Vec::new();
    perform(&arguments(folder, more), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn check_says_ok_and_the_digest_of_the_plan() {
    let folder = folder("");
    let text = said(&folder, &["--check"]).unwrap();
    assert!(text.starts_with("ok: run trial, plan "), "{text}");
    assert!(
        text.contains("3 rounds, quorum 2, 1 modules of rank 2, 20 bytes an update"),
        "{text}"
    );
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn check_names_file_line_and_column_and_exits_78() {
    let cases = [
        (
            "[cohort]\nquorum = 0\n",
            "server.toml:10:10: cohort.quorum: 0: it must be 1 to 64",
        ),
        (
            "[training]\nlearning_rate = -1.0\n",
            "server.toml:10:17: training.learning_rate: -1: it must be",
        ),
        (
            "[cohort]\nquorun = 1\n",
            "server.toml:10:1: unknown field `quorun`",
        ),
        (
            "[limits]\nupdate_norm_max = 1e30\n",
            "server.toml:9:1: limits: no fixed point fits",
        ),
        ("[log]\nlevel = \"=loud\"\n", "server.toml:10:9: log.level"),
    ];
    for (more, expected) in cases {
        let failure = said(&folder(more), &["--check"]).unwrap_err();
        assert!(
            failure.message.contains(expected),
            "{more}: {}",
            failure.message
        );
        assert_eq!(failure.code, 78);
    }
}

#[test]
fn check_names_a_folder_that_results_cannot_be_written_in_and_leaves_nothing() {
    // A file is in the way: that stops the superuser too.
    let folder = folder("out = \"start/foedus.json/runs\"\n");
    let before = files_under(folder.path());
    let failure = said(&folder, &["--check"]).unwrap_err();
    let message = failure.message;
    assert_eq!(failure.code, 78, "{message}");
    for expected in [
        "server.toml:9:7: run.out: nothing can be written in ",
        "start/foedus.json, ",
        "start/foedus.json/runs/trial: ",
    ] {
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(files_under(folder.path()), before);
    // One that is not there yet is made by the run.
    said(&folder, &["--check", "--set", "run.out=new/runs"]).unwrap();
    assert_eq!(files_under(folder.path()), before);
}

#[test]
fn check_refuses_a_run_that_is_at_its_end_or_of_another_plan() {
    let folder = folder("rounds = 3\nout = \"runs\"\n");
    let prepared = || {
        let (raw, _) = config::load(&folder.path().join("server.toml"), &[]).unwrap();
        Prepared::load(Config::from_raw(raw, folder.path()).unwrap()).unwrap()
    };
    let start = Digest(prepared().take_start().unwrap().sha256());
    let identity = Identity::new(prepared().plan().digest(), start);
    let run = folder.path().join("runs/trial");
    fs::create_dir_all(&run).unwrap();
    let (journal, _) = Journal::open(&run.join(JOURNAL_FILE), &identity).unwrap();
    // It is being served, as far as a check can see.
    said(&folder, &["--check"]).unwrap();
    journal.finish().unwrap();
    drop(journal);
    let of_finished = said(&folder, &["--check"]).unwrap_err();
    let of_other = said(&folder, &["--check", "--set", "run.rounds=4"]).unwrap_err();
    for (failure, expected) in [
        (of_finished, "has the rounds of a finished run"),
        (of_other, "was begun with another plan"),
    ] {
        assert_eq!(failure.code, 78, "{}", failure.message);
        assert!(failure.message.contains(expected), "{}", failure.message);
    }
}

#[test]
fn a_plan_is_written_over_nothing_but_a_plan() {
    let folder = folder("");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let key = fs::read(at("certs/server.key")).unwrap();
    let failure = said(&folder, &["--write-plan", &at("certs/server.key")]).unwrap_err();
    assert_eq!(failure.code, 64, "{}", failure.message);
    assert!(
        failure.message.contains("server.key is there already"),
        "{}",
        failure.message
    );
    assert_eq!(fs::read(at("certs/server.key")).unwrap(), key);
    for _ in 0..2 {
        said(&folder, &["--write-plan", &at("plan.pem")]).unwrap();
    }
}

#[test]
fn printing_the_configuration_checks_nothing_and_says_so() {
    let command = ["foedus-server", "--config", "x", "--print-config"];
    for other in [&["--check"][..], &["--write-plan", "plan.pem"]] {
        Arguments::try_parse_from(command.iter().chain(other)).unwrap_err();
    }
}

fn files_under(folder: &Path) -> std::collections::BTreeSet<PathBuf> {
    let mut found = std::collections::BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut files_under(&path));
        }
        found.insert(path);
    }
    found
}

#[test]
fn a_missing_start_folder_is_named_with_its_line() {
    let folder = folder("");
    fs::remove_dir_all(folder.path().join("start")).unwrap();
    let failure = said(&folder, &["--check"]).unwrap_err();
    assert!(
        failure
            .message
            .contains("server.toml:8:9: run.start: cannot read"),
        "{}",
        failure.message
    );
    assert_eq!(failure.code, 78);
}

#[test]
fn a_start_adapter_on_some_layers_is_refused_before_every_client_declines_it() {
    let folder = folder("");
    write_start(&folder.path().join("start"), &[8, 9]);
    let failure = said(&folder, &["--check"]).unwrap_err();
    assert!(
        failure.message.contains("server.toml:8:9: run.start: ")
            && failure.message.contains("layer 8 and nothing in layer 0"),
        "{}",
        failure.message
    );
    assert_eq!(failure.code, 78);
}

#[test]
fn printed_configuration_reads_back_with_what_was_set() {
    let folder = folder("");
    let more = [
        "--print-config",
        "--set",
        "cohort.quorum=5",
        "--log-level",
        "debug",
        "--listen",
        "[::1]:9",
    ];
    let text = said(&folder, &more).unwrap();
    let raw: RawConfig = toml::from_str(&text).unwrap();
    assert_eq!(
        (raw.cohort.quorum, raw.log.level.as_str(), raw.listen.port()),
        (5, "debug", 9)
    );
    assert!(!text.contains("PRIVATE"));
}

#[test]
fn a_wrong_command_line_exits_64_and_a_missing_file_78() {
    let run = |words: &[&str]| run_with(words.iter().map(OsString::from), &mut Vec::new());
    assert_eq!(run(&["foedus-server", "--confg", "x"]), 64);
    assert_eq!(run(&["foedus-server"]), 64);
    assert_eq!(
        run(&["foedus-server", "--config", "x", "--set", "quorum"]),
        64
    );
    assert_eq!(
        run(&["foedus-server", "--config", "/nowhere/server.toml"]),
        78
    );
    assert_eq!(run(&["foedus-server", "--help"]), 0);
}

#[test]
fn a_port_for_metrics_that_is_taken_is_an_error_that_names_it_and_its_line() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let folder = folder(&format!(
        "[metrics]\nlisten = \"{address}\"\n[log]\nlevel = \"error\"\n"
    ));
    let failure = said(&folder, &["--listen", "127.0.0.1:0"]).unwrap_err();
    assert_eq!(failure.code, exit::FAILURE);
    let message = failure.message;
    let expected = format!("metrics.listen: cannot serve metrics on TCP {address}: ");
    assert!(message.contains(&expected), "{message}");
    assert!(message.contains("server.toml:10:10: "), "{message}");
}
