//! Who somebody is in a federation: the URI inside a certificate.
//!
//! An [`Identity`] is `foedus://FEDERATION/ROLE/NAME`. It is carried as the only URI of the
//! subject alternative name (RFC 5280, section 4.2.1.6) of an X.509 certificate, is compared as
//! a whole, and has exactly one spelling: no upper case, no escapes, no port, no query. This module knows no certificates;
//! `quic` (behind the feature of that name) and the crate `certs` read and write those.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest federation or party name, in bytes: that of a DNS label.
pub const LABEL_BYTES_MAX: usize = 63;

const SCHEME: &str = "foedus://";

/// What a certificate entitles its holder to be.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// The federation's one server: it signs run plans and merges updates.
    Server,
    /// An institution that trains on its own data.
    Participant,
}

impl Role {
    /// Returns the role as it is spelled in an identity.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Participant => "participant",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "server" => Ok(Self::Server),
            "participant" => Ok(Self::Participant),
            _ => Err(IdentityError::Role),
        }
    }
}

/// One party of one federation, in one role.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    federation: String,
    role: Role,
    name: String,
}

impl Identity {
    /// Makes an identity from its three parts.
    ///
    /// # Errors
    /// [`IdentityError::Label`] if the federation or the name is not a label (see
    /// [`check_label`]).
    pub fn new(federation: &str, role: Role, name: &str) -> Result<Self, IdentityError> {
        label("federation", federation)?;
        label("name", name)?;
        Ok(Self {
            federation: federation.to_owned(),
            role,
            name: name.to_owned(),
        })
    }

    /// Returns the federation, the group behind one authority.
    pub fn federation(&self) -> &str {
        &self.federation
    }

    /// Returns the role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the party's name, unique within its federation and role.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.federation, self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).ok_or(IdentityError::Scheme)?;
        let mut parts = rest.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(federation), Some(role), Some(name), None) => {
                Self::new(federation, role.parse()?, name)
            }
            _ => Err(IdentityError::Parts),
        }
    }
}

impl TryFrom<String> for Identity {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.to_string()
    }
}

/// Checks that `text` can name a federation, a party or a run: `[a-z0-9][a-z0-9-]{0,62}`.
///
/// # Errors
/// [`LabelError`] says which rule is broken.
pub fn check_label(text: &str) -> Result<(), LabelError> {
    if text.is_empty() {
        return Err(LabelError::Empty);
    }
    if text.len() > LABEL_BYTES_MAX {
        return Err(LabelError::TooLong { bytes: text.len() });
    }
    if text.starts_with('-') {
        return Err(LabelError::LeadingHyphen);
    }
    let stranger = |c: &char| !matches!(c, 'a'..='z' | '0'..='9' | '-');
    match text.chars().find(stranger) {
        Some(found) => Err(LabelError::Character { found }),
        None => Ok(()),
    }
}

fn label(part: &'static str, text: &str) -> Result<(), IdentityError> {
    check_label(text).map_err(|source| IdentityError::Label { part, source })
}

/// Why a text is no name.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum LabelError {
    /// Nothing there.
    #[error("a name cannot be empty")]
    Empty,
    /// Longer than [`LABEL_BYTES_MAX`].
    #[error("a name has at most {LABEL_BYTES_MAX} characters, not {bytes}")]
    TooLong {
        /// The length found.
        bytes: usize,
    },
    /// A hyphen at the start would read as an option on a command line.
    #[error("a name starts with a letter or a digit, not with a hyphen")]
    LeadingHyphen,
    /// Something other than a lower-case letter, a digit or a hyphen.
    #[error("a name is made of a-z, 0-9 and hyphens, and {found:?} is none of them")]
    Character {
        /// The first such character; printed escaped.
        found: char,
    },
}

/// Why a text is no identity.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum IdentityError {
    /// Another scheme, or none.
    #[error("an identity starts with foedus://")]
    Scheme,
    /// Too few or too many parts.
    #[error("an identity has the form foedus://FEDERATION/ROLE/NAME")]
    Parts,
    /// A role that does not exist.
    #[error("the role in an identity is server or participant")]
    Role,
    /// A federation or a name outside the character set.
    #[error("the {part} in an identity is wrong: {source}")]
    Label {
        /// `federation` or `name`.
        part: &'static str,
        /// The rule broken.
        source: LabelError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_as_it_was_written() {
        let identity = Identity::new("north-sea", Role::Participant, "hospital-1").unwrap();
        let text = identity.to_string();
        assert_eq!(text, "foedus://north-sea/participant/hospital-1");
        assert_eq!(text.parse::<Identity>().unwrap(), identity);
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for text in [
            "",
            "foedus://",
            "foedus://a/server",
            "foedus://a/server/b/",
            "foedus://a/server/b/c",
            "foedus://a/server/",
            "foedus:///server/b",
            "Foedus://a/server/b",
            "https://a/server/b",
            "foedus://a/Server/b",
            "foedus://a/operator/b",
            "foedus://a/server/B",
            "foedus://a/server/b%2d",
            "foedus://a/server/b?x",
            "foedus://a/server/b ",
            "foedus://a:1/server/b",
            "foedus://a/server/-b",
            "foedus://a/server/b\0",
            "foedus://a/server/é",
            "foedus://a/server/..",
        ] {
            assert!(text.parse::<Identity>().is_err(), "accepted {text:?}");
        }
    }

    #[test]
    fn a_name_of_63_characters_is_the_longest() {
        assert!(check_label(&"a".repeat(63)).is_ok());
        assert_eq!(
            check_label(&"a".repeat(64)),
            Err(LabelError::TooLong { bytes: 64 })
        );
    }

    #[test]
    fn control_characters_are_printed_escaped() {
        let error = check_label("a\u{1b}[31m").unwrap_err().to_string();
        assert!(
            error.contains("\\u{1b}") && !error.contains('\u{1b}'),
            "{error}"
        );
    }
}
