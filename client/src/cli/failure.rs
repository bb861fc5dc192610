//! An error on its way to the exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use protocol::{
    close::CloseCode,
    quic::{HandshakeError, PeerRefusal},
};

use crate::{config::ConfigError, error::ClientError};

/// Wrong usage (EX_USAGE of sysexits).
pub(super) const USAGE: u8 = 64;
/// A temporary obstacle (EX_TEMPFAIL).
const TRY_AGAIN: u8 = 75;
/// Wrong configuration (EX_CONFIG).
const CONFIGURATION: u8 = 78;

/// What went wrong, and the exit code that says who has to act.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// The command line asks for something that makes no sense.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            error: anyhow::Error::msg(what.into()),
        }
    }

    /// The configuration lacks what the command needs.
    pub(super) fn configuration(what: impl Into<String>) -> Self {
        Self {
            code: CONFIGURATION,
            error: anyhow::Error::msg(what.into()),
        }
    }

    /// Gives the exit code.
    #[cfg(test)]
    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// Prints the error with its causes, each once, and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        // The exit code says it where nobody reads.
        let _ = writeln!(io::stderr(), "foedus-client: {self}");
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&said_once(&self.error))
    }
}

/// Gives an error with its causes, each once: most of our sentences hold the words of their cause, so that they read well where no chain
/// is printed.
pub fn said_once(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if said.contains(&cause) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&cause);
    }
    said
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            code: CONFIGURATION,
            error: error.into(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Tls(_)
            | ClientError::Closed {
                code: CloseCode::Revoked,
            }
            | ClientError::NoParticipant { .. }
            | ClientError::Certificate(_) => CONFIGURATION,
            ClientError::Handshake(error) if is_of_configuration(error) => CONFIGURATION,
            error if error.is_temporary() => TRY_AGAIN,
            _ => 1,
        };
        Self {
            code,
            error: error.into(),
        }
    }
}

/// Whether a certificate, ours or the server's, is in the way: the same files come to the same end.
fn is_of_configuration(error: &HandshakeError) -> bool {
    match error {
        // Something on the server's side, and nothing of ours.
        HandshakeError::RefusedByPeer { reason, .. } => *reason != PeerRefusal::Unchecked,
        HandshakeError::Refused(_) | HandshakeError::Role { .. } => true,
        HandshakeError::Busy { .. }
        | HandshakeError::TurnedAway { .. }
        | HandshakeError::Closed { .. }
        | HandshakeError::TimedOut { .. }
        | HandshakeError::Foreign { .. }
        | HandshakeError::Local { .. } => false,
    }
}

/// Everything without a code of its own.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, error }
    }
}
