//! The command line of `foedus-server`. The one module that talks to people and chooses exit codes.

mod signals;
mod transcript;

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand, ValueEnum};
use protocol::memory::keep_memory_private;
use protocol::quic::PlanFile;
use tokio::sync::oneshot;

use crate::config::{self, Config, ConfigError, LogFormat, RawConfig, Setting, Source};
use crate::error::{ServerError, exit};
use crate::observer::{Observer, RunEvent, RunOutcome};
use crate::run::Server;
use crate::start::Prepared;
use crate::telemetry::{self, RoundsBar};
use transcript::TranscriptCommand;

const AFTER_HELP: &str = "\
From nothing to a run:
  1. foedus-certs init, request, sign       the federation's CA and this server's certificate
  2. foedus-client adapter new --out start/ the adapter that the run starts from, for your base model
  3. edit server.toml                       start from server.example.toml; only five keys are required
  4. foedus-server --config server.toml --check
     foedus-server --config server.toml --write-plan plan.foedus   for the sites' policy check
  5. foedus-server --config server.toml     serves one run, then exits

Results, in OUT/NAME/ as [run] says:
  rounds.jsonl   one line per round: who delivered, who was refused and why, norms, bytes
  transcript.jsonl   the signed record of each round; `foedus-server transcript verify OUT/NAME --authority ca.crt`
  round-0001/    the adapter after each round, in PEFT format (Hugging Face PEFT, vLLM)
  adapter/       the adapter after the last round

Stop it with Ctrl-C or SIGTERM: participants are told, and finished rounds stay on disk. A second one ends it at once.

Exit codes: 0 the run is complete, 64 the command line is wrong, 78 the configuration is wrong,
75 the run is unfinished and trying again can succeed (stopped, quorum not met), 1 anything else.";

/// Runs one federated fine-tuning job: asks participants to train, merges their updates, writes the adapter.
#[derive(Debug, Parser)]
#[command(name = "foedus-server", version, after_help = AFTER_HELP, max_term_width = 110)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Check the configuration, all files and the output folder without listening; print the plan's digest and exit
    #[arg(long)]
    check: bool,
    /// Print the configuration with all defaults filled in, and exit
    #[arg(long, conflicts_with_all = ["check", "write_plan"])]
    print_config: bool,
    /// Write the signed run plan to FILE, for `foedus-client policy check` at the sites, and exit
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    write_plan: Option<PathBuf>,
    /// Set one key, overriding the file; may be repeated. For example: --set cohort.quorum=3 --set run.name=second
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<Setting>,
    /// Listen at this address instead of `listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Log at this level or with this filter instead of `log.level`
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log in this form instead of `log.format`
    #[arg(long, value_name = "FORM")]
    log_format: Option<Form>,
}

/// What else than a run there is to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Read and check a run's record, offline
    #[command(subcommand)]
    Transcript(TranscriptCommand),
}

/// The form of log lines, as an argument.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// The program: parses the process's arguments, does what they say, and gives the exit code.
pub fn main() -> ExitCode {
    if let Err(error) = keep_memory_private() {
        complain(&format!("cannot forbid core files: {error}"));
        return ExitCode::from(exit::FAILURE);
    }
    ExitCode::from(run_with(std::env::args_os(), &mut io::stdout()))
}

/// Does what the arguments say and gives the exit code; results go to `out`, everything else to standard error.
fn run_with(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> u8 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, everything else is a mistake. Nothing is to be done if nobody reads it.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { 0 };
        }
    };
    match perform(&arguments, out) {
        Ok(()) => 0,
        Err(Failure { code, message }) => {
            complain(&message);
            code
        }
    }
}

/// What is said, and the exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::Setting { .. } => exit::USAGE,
            _ => exit::CONFIGURATION,
        };
        Self {
            code,
            message: error.to_string(),
        }
    }
}

impl Failure {
    fn new(code: u8, message: impl ToString) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// Says where in the file the mistake is, if it is one of the file.
    fn located(error: &ServerError, source: &Source) -> Self {
        let message = match error.about_key() {
            Some(found) => source.locate(&found).to_string(),
            None => error.to_string(),
        };
        Self::new(error.exit_code(), message)
    }
}

fn perform(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    match (&arguments.command, &arguments.config) {
        (Some(Command::Transcript(command)), _) => say(out, &command.answer()?),
        (None, Some(path)) => perform_run(arguments, path, out),
        // clap asks for one of the two.
        (None, None) => Err(Failure::new(exit::USAGE, "--config is missing")),
    }
}

fn perform_run(arguments: &Arguments, path: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut raw, source) = config::load(path, &arguments.settings)?;
    override_log(&mut raw, arguments);
    if arguments.print_config {
        let text = toml::to_string(&raw).map_err(|error| Failure::new(exit::FAILURE, error))?;
        return say(out, text.trim_end());
    }
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let config = Config::from_raw(raw, folder).map_err(|error| source.locate(&error))?;
    let bar = RoundsBar::for_terminal(config.run.rounds, &config.log)
        .filter(|_| !arguments.check && arguments.write_plan.is_none());
    telemetry::install(&config.log, bar.as_ref().map(RoundsBar::handle)).map_err(|what| {
        Failure::from(source.locate(&config::ValueError {
            key: "log.level".to_owned(),
            what,
        }))
    })?;
    let prepared = Prepared::load(config).map_err(|error| Failure::located(&error, &source))?;
    if arguments.check {
        let writable = prepared.check_results();
        writable.map_err(|error| Failure::located(&error, &source))?;
        return say(out, &checked(&prepared));
    }
    if let Some(file) = &arguments.write_plan {
        return write_plan(&prepared, file, out);
    }
    let outcome = serve(prepared, bar).map_err(|error| Failure::located(&error, &source))?;
    say(out, &told(&outcome))
}

fn override_log(raw: &mut RawConfig, arguments: &Arguments) {
    if let Some(listen) = arguments.listen {
        raw.listen = listen;
    }
    if let Some(level) = &arguments.log_level {
        raw.log.level.clone_from(level);
    }
    match arguments.log_format {
        Some(Form::Text) => raw.log.format = LogFormat::Text,
        Some(Form::Json) => raw.log.format = LogFormat::Json,
        None => {}
    }
}

/// How long the last threads may take.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// Serves the run in a runtime of its own, until it is over or a signal comes.
fn serve(prepared: Prepared, bar: Option<RoundsBar>) -> Result<RunOutcome, ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| ServerError::Internal {
            what: format!("no runtime: {error}"),
        })?;
    let observer: Arc<dyn Observer> = match bar {
        Some(bar) => Arc::new(bar),
        None => Arc::new(|_: &RunEvent| {}),
    };
    let (stop, asked) = oneshot::channel();
    runtime.spawn(signals::listen(stop));
    let stop = signals::stop_asked(asked);
    let outcome = runtime.block_on(async { Server::listen(prepared)?.run(observer, stop).await });
    // The run is over. Threads may still write the beginnings of updates that broke off; a disk that hangs holds nobody up.
    runtime.shutdown_timeout(LAST_WRITES);
    outcome
}

fn checked(prepared: &Prepared) -> String {
    let plan = prepared.plan();
    let days = prepared
        .tls()
        .expires()
        .duration_since(SystemTime::now())
        .map_or(0, |left| left.as_secs() / 86_400);
    format!(
        "ok: run {}, plan {}\n    {} rounds, quorum {}, {} modules of rank {}, {} bytes an update\n    base {} ({})\n    {} (certificate valid for {days} days)",
        plan.run,
        plan.digest(),
        plan.rounds,
        plan.cohort.quorum,
        prepared.layout().modules().len(),
        plan.lora.rank,
        plan.encoded_bytes(),
        plan.base.name,
        plan.base.fingerprint,
        prepared.tls().identity(),
    )
}

/// Writes what every participant will be sent, so that sites can judge it before the run.
fn write_plan(prepared: &Prepared, file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let text = prepared
        .plan_file()
        .to_pem()
        .map_err(|error| Failure::new(exit::FAILURE, error))?;
    let failed = |error| {
        Failure::new(
            exit::FAILURE,
            format!("cannot write {}: {error}", file.display()),
        )
    };
    check_plan_place(file)?;
    std::fs::write(file, text).map_err(failed)?;
    let (run, digest) = (&prepared.plan().run, prepared.plan().digest());
    say(
        out,
        &format!("{}: the plan of run {run}, {digest}", file.display()),
    )
}

/// Refuses to write a plan over anything but a plan: the name may be that of a key.
fn check_plan_place(file: &Path) -> Result<(), Failure> {
    match std::fs::read(file) {
        Ok(there) if !there.is_empty() && PlanFile::from_pem(&there).is_err() => {
            let what = format!(
                "{} is there already, is no plan, and is left as it is: choose another file",
                file.display()
            );
            Err(Failure::new(exit::USAGE, what))
        }
        // What cannot be read is said when it is written.
        _ => Ok(()),
    }
}

fn told(outcome: &RunOutcome) -> String {
    format!(
        "run {}: {} rounds in {:.1} s, adapter {} in {}",
        outcome.run,
        outcome.records.len(),
        outcome.seconds,
        outcome.adapter_sha256,
        outcome.adapter_folder.display()
    )
}

/// Answers. A reader that has heard enough (`| head -1`) is no fault: the rest is dropped, and the command ends as it would have.
fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let what = format!("the answer cannot be written to stdout: {error}");
            Err(Failure::new(exit::FAILURE, what))
        }
        _ => Ok(()),
    }
}

/// The one place where this program tells people what is wrong.
fn complain(message: &str) {
    // The exit code says it where nobody reads.
    let _ = writeln!(io::stderr(), "foedus-server: {message}");
}

#[cfg(test)]
mod tests;
