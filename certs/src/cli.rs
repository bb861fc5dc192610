//! The program `foedus-certs`: its commands, what they print, and how they end.

mod commands;

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use protocol::identity::{LabelError, Role, check_label};
use protocol::memory::keep_memory_private;

use crate::error::IssueError;
use crate::terms::Host;

/// Wrong use of the command line.
const USAGE: u8 = 64;
/// A file named is missing, broken, or in the way.
const CONFIGURATION: u8 = 78;

/// Issues and revokes the certificates of a Foedus federation.
#[derive(Debug, Parser)]
#[command(name = "foedus-certs", version, after_help = EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
How a federation starts:
  operator     foedus-certs init --federation north-sea
  server       foedus-certs request --federation north-sea --role server --name hub
  institution  foedus-certs request --federation north-sea --role participant --name hospital-a
  operator     foedus-certs sign hub.csr --role server --name hub --host fl.example.org
               foedus-certs sign hospital-a.csr --role participant --name hospital-a

The .key file stays where it was made. The .csr goes to the operator; the .crt comes back, with
ca.crt and crl.pem from the authority's folder. The programs' TOML files name these files:
certificate = \"hospital-a.crt\", key = \"hospital-a.key\", authority = \"ca.crt\",
revocations = \"crl.pem\".

Exit codes: 64 wrong usage, 78 a file is missing, broken or in the way, 1 everything else.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the authority of a new federation (operator).
    Init(Init),
    /// Make a private key here, and a request for a certificate (every party).
    Request(Request),
    /// Sign a party's request (operator).
    Sign(Sign),
    /// Revoke certificates, and write the new revocation list (operator).
    Revoke(Revoke),
    /// Sign a newer certificate for the same party and key, or sign the revocation list again (operator).
    Renew(Renew),
    /// List all certificates issued (operator).
    List(List),
    /// Show a certificate, a request or a revocation list, and the days left.
    Show(Show),
}

#[derive(Args, Debug)]
struct Init {
    /// The federation's name: a-z, 0-9 and hyphens.
    #[arg(long, value_parser = label)]
    federation: String,
    /// The authority's folder; the whole federation depends on the key in it.
    #[arg(long, value_name = "FOLDER", default_value = "authority")]
    authority: PathBuf,
    /// Validity of the authority, in days.
    #[arg(long, default_value_t = 3650)]
    days: u64,
}

#[derive(Args, Debug)]
struct Request {
    /// The federation to join.
    #[arg(long, value_parser = label)]
    federation: String,
    /// Role: server or participant.
    #[arg(long)]
    role: Role,
    /// This party's name in the federation: a-z, 0-9 and hyphens.
    #[arg(long, value_parser = label)]
    name: String,
    /// The folder to write NAME.key and NAME.csr to.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
}

#[derive(Args, Debug)]
struct Sign {
    /// The request, a .csr file.
    request: PathBuf,
    /// The role of the party that the request is known to come from.
    #[arg(long)]
    role: Role,
    /// The name of the party that the request is known to come from.
    #[arg(long, value_parser = label)]
    name: String,
    /// A DNS name or IP address of a server, for the benefit of other programs; may be repeated.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<Host>,
    /// Validity of the certificate, in days.
    #[arg(long, default_value_t = 365)]
    days: u64,
    /// The certificate to write; by default the request's name with .crt. An earlier one of the same party is replaced, and no
    /// other file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Revoke {
    /// A serial number, a party's name, or an identity foedus://FEDERATION/ROLE/NAME.
    #[arg(value_name = "WHAT")]
    what: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Renew {
    /// A certificate that has not expired, a .crt file. Without one, the revocation list is signed again, so that it is valid for
    /// another 90 days.
    certificate: Option<PathBuf>,
    /// Validity of the new certificate, in days.
    #[arg(long, default_value_t = 365, requires = "certificate")]
    days: u64,
    /// The certificate to write: a new file, or one that holds a certificate of the same party. By default the renewed one replaces the
    /// old one.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Show {
    /// A PEM file.
    file: PathBuf,
}

#[derive(Args, Debug)]
struct Place {
    /// The authority's folder.
    #[arg(long, value_name = "FOLDER", default_value = "authority")]
    authority: PathBuf,
}

fn label(text: &str) -> Result<String, LabelError> {
    check_label(text).map(|()| text.to_owned())
}

/// Runs `foedus-certs` with the process's arguments.
pub fn main() -> ExitCode {
    if let Err(error) = keep_memory_private() {
        complain(&format!("cannot forbid core files: {error}"));
        return ExitCode::FAILURE;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do if the terminal is gone.
            let _ = error.print();
            return match error.use_stderr() {
                true => ExitCode::from(USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let now = Timestamp::now();
    let outcome = match &cli.command {
        Command::Init(arguments) => arguments.run(now),
        Command::Request(arguments) => arguments.run(),
        Command::Sign(arguments) => arguments.run(now),
        Command::Revoke(arguments) => arguments.run(now),
        Command::Renew(arguments) => arguments.run(now),
        Command::List(arguments) => arguments.run(now),
        Command::Show(arguments) => arguments.run(now),
    };
    match outcome {
        Ok(text) => answer(&text),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Says what went wrong, as long as there is somebody to hear it.
fn complain(what: &str) {
    let _ = writeln!(std::io::stderr(), "foedus-certs: {what}");
}

/// Answers. A reader that has heard enough (`| head -1`) is no fault: the rest is dropped.
fn answer(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("the answer cannot be written to stdout: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn exit_code(error: &IssueError) -> u8 {
    match error {
        IssueError::Identity(_) | IssueError::Validity { .. } | IssueError::Host { .. } => USAGE,
        IssueError::HostOfParticipant { .. } => USAGE,
        IssueError::Authority { .. }
        | IssueError::Exists { .. }
        | IssueError::InTheWay { .. }
        | IssueError::AuthoritysOwn { .. }
        | IssueError::File { .. }
        | IssueError::Unreadable { .. } => CONFIGURATION,
        IssueError::Unlisted { cause } => exit_code(cause),
        IssueError::Request { .. }
        | IssueError::WrongFederation { .. }
        | IssueError::WrongParty { .. }
        | IssueError::RevokedKey { .. }
        | IssueError::AuthorityExpired { .. }
        | IssueError::Renewal { .. }
        | IssueError::UnknownCertificate { .. }
        | IssueError::AlreadyRevoked { .. }
        | IssueError::AmbiguousName { .. }
        | IssueError::Crypto { .. } => 1,
    }
}
