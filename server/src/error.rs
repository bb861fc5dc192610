//! Why a server does not start, or a run does not end with an adapter; and the exit code for each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aggregation::strategy::fedavg::AggregateError;
use protocol::close::RunFailure;
use protocol::plan::PlanError;
use protocol::quic::{ListenError, MaterialError, Rejection};
use protocol::transcript::TranscriptFault;

use crate::config::ValueError;
use crate::journal::JournalError;
use crate::start::StartError;

/// A server that could not do its run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The certificates or the key cannot be used.
    #[error("[identity]: {0}")]
    Identity(#[from] MaterialError),
    /// Our own certificate would be refused by every participant.
    #[error("[identity]: participants would refuse our own certificate: {0}")]
    Certificate(Rejection),
    /// The start folder or the anchor cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The run plan makes no sense.
    #[error("the run plan makes no sense: {0}")]
    Plan(#[from] PlanError),
    /// The limits leave no room for an exact sum.
    #[error("[limits]: {0}")]
    Limits(AggregateError),
    /// The run is finished, or its rounds have no journal to go on from.
    #[error(
        "{} has the rounds of a finished run; choose another run.name or move the folder away", folder.display()
    )]
    RunExists {
        /// The run's folder.
        folder: PathBuf,
    },
    /// The journal cannot be opened, read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's transcript was changed.
    #[error(
        "the transcript in the run's journal is damaged: {0}; restore the run's folder from a backup, or choose another run.name to begin anew"
    )]
    Transcript(#[from] TranscriptFault),
    /// An update that counts is not there any more.
    #[error(
        "an accepted update is lost: {}: {what}; restore the run's folder from a backup, or choose another run.name to begin anew", path.display()
    )]
    UpdateLost {
        /// Its file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The adapter of a round that is done is not there any more.
    #[error(
        "the adapter of a finished round is lost: {}: {what}; restore the run's folder from a backup, or choose another run.name to begin anew", folder.display()
    )]
    AdapterLost {
        /// Its folder.
        folder: PathBuf,
        /// What was found.
        what: String,
    },
    /// The socket cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The socket for monitoring cannot be opened.
    #[error(
        "cannot serve metrics on TCP {address}: {source}; metrics.listen must be a free port of an address of this machine"
    )]
    Metrics {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or folder of the run cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the run cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The run ended without its adapter.
    #[error("the run ended after {rounds_done} of {rounds} rounds: {detail}")]
    Unfinished {
        /// Why.
        reason: RunFailure,
        /// Why, with numbers.
        detail: String,
        /// Rounds that were completed and written.
        rounds_done: u32,
        /// Rounds planned.
        rounds: u32,
    },
    /// The run had ended before, and what is in its journal ends it again at once, whoever comes.
    #[error(
        "the run ended after {rounds_done} of {rounds} rounds and cannot go on: {detail}; starting it again comes to the same, so choose \
         another run.name to begin anew"
    )]
    EndsAgain {
        /// Why, with numbers.
        detail: String,
        /// Rounds that were completed and written.
        rounds_done: u32,
        /// Rounds planned.
        rounds: u32,
    },
    /// The updates could not be merged, or a part of the server ended that must not.
    #[error("the server cannot go on: {what}")]
    Internal {
        /// What happened.
        what: String,
    },
}

impl ServerError {
    /// Gives the exit code of the program: 78 configuration, 75 try again, 1 the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Identity(_)
            | Self::Certificate(_)
            | Self::Start(_)
            | Self::Plan(_)
            | Self::Limits(_)
            | Self::RunExists { .. }
            | Self::Journal(JournalError::Busy { .. } | JournalError::OtherRun { .. })
            | Self::Listen(ListenError::Role { .. }) => exit::CONFIGURATION,
            Self::Unfinished { reason, .. } if reason.is_temporary() => exit::TRY_AGAIN,
            Self::Listen(ListenError::Socket { .. })
            | Self::Metrics { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Journal(_)
            | Self::Transcript(_)
            | Self::UpdateLost { .. }
            | Self::AdapterLost { .. }
            | Self::Unfinished { .. }
            | Self::EndsAgain { .. }
            | Self::Internal { .. } => exit::FAILURE,
        }
    }

    /// Gives the finding as one about a key of the configuration file, if it is about one.
    pub fn about_key(&self) -> Option<ValueError> {
        match self {
            Self::Plan(error) => {
                let key = match error.field {
                    "rounds" => "run.rounds",
                    "training.local_steps times rounds" => "training.local_steps",
                    field if field.starts_with("lora.") || field.starts_with("base.") => {
                        "run.start"
                    }
                    "adapter_bytes" => "run.start",
                    field => field,
                };
                Some(ValueError::new(
                    key,
                    format!("{}: it {}", error.found, error.rule),
                ))
            }
            Self::Start(error) => Some(ValueError::new(error.key(), error.to_string())),
            Self::Metrics { .. } => Some(ValueError::new("metrics.listen", self.to_string())),
            Self::Limits(error) => Some(ValueError::new("limits", error.to_string())),
            Self::RunExists { .. }
            | Self::EndsAgain { .. }
            | Self::Journal(JournalError::OtherRun { .. }) => {
                Some(ValueError::new("run.name", self.to_string()))
            }
            _ => None,
        }
    }

    /// Of a run that was over before anybody could come: that the next start would end so too, whatever the reason lets hope for.
    pub(crate) fn after_no_work(self, was_over: bool) -> Self {
        match self {
            Self::Unfinished {
                detail,
                rounds_done,
                rounds,
                ..
            } if was_over => Self::EndsAgain {
                detail,
                rounds_done,
                rounds,
            },
            error => error,
        }
    }

    /// Whether the run can go on once the operator has looked after the disk.
    pub(crate) fn is_of_disk(&self) -> bool {
        matches!(
            self,
            Self::Write { .. } | Self::Read { .. } | Self::Journal(_)
        )
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }
}

/// The exit codes of the program (sysexits.h), and plain failure.
pub mod exit {
    /// The command line makes no sense.
    pub const USAGE: u8 = 64;
    /// The configuration makes no sense.
    pub const CONFIGURATION: u8 = 78;
    /// The run is unfinished; trying again can succeed.
    pub const TRY_AGAIN: u8 = 75;
    /// Everything else.
    pub const FAILURE: u8 = 1;
}
