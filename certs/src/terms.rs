//! What the operator grants when signing a request.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use protocol::identity::Role;
use rcgen::SanType;

use crate::IssueError;

/// Clocks of the sites may be behind the authority's by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// For whom, where and until when a certificate is issued.
///
/// The operator names the party independently of the request, so that a request that came under
/// another's name is noticed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    /// The role granted.
    pub role: Role,
    /// The name granted.
    pub name: String,
    /// Names and addresses of a server. For other programs' sake: Foedus itself checks the
    /// identity.
    pub hosts: Vec<Host>,
    /// The first moment of validity.
    pub starts: Timestamp,
    /// How long it is valid; cut to the authority's own end.
    pub validity: Duration,
}

impl Terms {
    /// Returns terms that start a little before `now`, for clocks that are behind, and last `days`.
    ///
    /// # Errors
    /// [`IssueError::Validity`] for less than a day or more than a hundred years.
    pub fn new(role: Role, name: &str, now: Timestamp, days: u64) -> Result<Self, IssueError> {
        Ok(Self {
            role,
            name: name.to_owned(),
            hosts: Vec::new(),
            starts: now.checked_sub(CLOCK_SKEW).unwrap_or(now),
            validity: days_long(days)?,
        })
    }
}

/// Returns a validity of `days`.
pub(crate) fn days_long(days: u64) -> Result<Duration, IssueError> {
    match u32::try_from(days) {
        Ok(count @ 1..=36_500) => Ok(DAY * count),
        _ => Err(IssueError::Validity { days }),
    }
}

/// A server's DNS name or IP address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An IP address.
    Address(IpAddr),
}

impl Host {
    pub(crate) fn to_san(&self) -> Result<SanType, IssueError> {
        match self {
            Self::Address(address) => Ok(SanType::IpAddress(*address)),
            Self::Name(name) => name
                .as_str()
                .try_into()
                .map(SanType::DnsName)
                .map_err(|_| IssueError::Host { text: name.clone() }),
        }
    }
}

impl FromStr for Host {
    type Err = IssueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let label = |part: &str| {
            !part.is_empty()
                && part.len() <= 63
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            return Ok(Self::Name(text.to_ascii_lowercase()));
        }
        Err(IssueError::Host {
            text: text.to_owned(),
        })
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}
