//! The command line: what can be asked for, how it is shown, and the exit code.
//!
//! The one module that talks to people. Results go to stdout; progress, logs and errors to stderr.

mod adapter;
mod answer;
mod arguments;
mod audit;
mod bench;
mod data;
mod evaluate;
mod failure;
mod fisher;
mod generate;
mod ledger;
mod open;
mod output;
mod policy;
mod privacy;
mod progress;
mod run;
mod train;
mod training;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser as _;
use protocol::memory::keep_memory_private;

pub use self::failure::said_once;
use self::{
    arguments::{Arguments, BenchCommand, Command, DataCommand, PolicyCommand, PrivacyCommand},
    failure::Failure,
};
use crate::telemetry;

/// Runs the program with the process's arguments.
///
/// Exit codes: 0 done, 64 wrong usage, 78 wrong configuration, 75 a temporary obstacle (the same command may succeed later),
/// 1 anything else.
pub fn main() -> ExitCode {
    if let Err(error) = keep_memory_private() {
        return Failure::from(anyhow::Error::from(error).context("cannot forbid core files"))
            .report();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => {
            // Help and version are answers too; they come this way and are no errors. A closed stdout is nobody's concern.
            let _ = answer.print();
            return ExitCode::from(if answer.use_stderr() {
                failure::USAGE
            } else {
                0
            });
        }
    };
    match dispatch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    let log = arguments.log;
    // `run` takes its log from the configuration file, unless a flag says otherwise.
    if !matches!(arguments.command, Command::Run(_)) {
        let format = log.log_format.unwrap_or_default();
        let filter = log.log.as_deref().unwrap_or("warn");
        telemetry::install(format, filter, std::io::stderr).map_err(Failure::usage)?;
    }
    match arguments.command {
        Command::Run(command) => run::run(&command, &log),
        Command::Train(command) => train::train(&command),
        Command::Evaluate(command) => evaluate::evaluate(&command),
        Command::Generate(command) => generate::generate(&command),
        Command::Fisher(command) => fisher::fisher(&command),
        Command::Audit(command) => audit::audit(&command),
        Command::Data(DataCommand::Check(command)) => data::check(&command),
        Command::Policy(PolicyCommand::Check(command)) => policy::check(&command),
        Command::Ledger(command) => ledger::ledger(&command),
        Command::Adapter(command) => adapter::adapter(&command),
        Command::Privacy(PrivacyCommand::Plan(command)) => privacy::plan(&command),
        Command::Privacy(PrivacyCommand::Spent(command)) => privacy::spent(&command),
        Command::Bench(BenchCommand::Train(command)) => bench::train(&command),
        Command::Bench(BenchCommand::Products(command)) => bench::products(&command),
    }
}
