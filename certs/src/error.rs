//! Why something was not issued, revoked, read or written.

use std::io;
use std::path::PathBuf;

use protocol::identity::{Identity, IdentityError, Role};
use thiserror::Error;

/// What an authority, its folder or a request can fail with.
#[derive(Debug, Error)]
pub enum IssueError {
    /// A federation, a role or a name is none.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// The request is not a PKCS #10 request in PEM, or its signature is not by its own key.
    #[error("the request cannot be used: {what}")]
    Request {
        /// What is wrong.
        what: String,
    },
    /// The request is for another federation.
    #[error("the request is for the federation {found:?}, and this authority is that of {own:?}")]
    WrongFederation {
        /// The authority's federation.
        own: String,
        /// The federation asked for.
        found: String,
    },
    /// The request is not for the party that the operator named.
    #[error("the request is for the {} {:?}, not for the {role} {name:?}", found.role(), found.name())]
    WrongParty {
        /// The identity asked for.
        found: Box<Identity>,
        /// The role that the operator named.
        role: Role,
        /// The name that the operator named.
        name: String,
    },
    /// A host for a certificate that is not a server's.
    #[error("only a server's certificate names hosts; leave out {host}")]
    HostOfParticipant {
        /// The first host given.
        host: String,
    },
    /// A host that is neither a DNS name nor an IP address.
    #[error("{text:?} is neither a DNS name nor an IP address")]
    Host {
        /// What was given.
        text: String,
    },
    /// A validity that does not fit the calendar, or is nothing.
    #[error("a validity of {days} days cannot be; give 1 to 36500")]
    Validity {
        /// The days given.
        days: u64,
    },
    /// A certificate that cannot be renewed.
    #[error("the certificate cannot be renewed: {what}")]
    Renewal {
        /// What is wrong with it.
        what: String,
    },
    /// A key of which a certificate was revoked.
    #[error(
        "its key is that of the certificate {serial} of {identity}, which was revoked on {}, and is not signed again: \
         make a new key with foedus-certs request, and sign its request",
        revoked.strftime("%Y-%m-%d")
    )]
    RevokedKey {
        /// The earlier certificate.
        serial: String,
        /// Whose it was.
        identity: Box<Identity>,
        /// When it was revoked.
        revoked: jiff::Timestamp,
    },
    /// The authority itself has expired.
    #[error("the authority expired on {expired}; a new federation needs foedus-certs init")]
    AuthorityExpired {
        /// When.
        expired: jiff::Timestamp,
    },
    /// Nothing to revoke.
    #[error("no certificate with the name or serial number {what:?} was issued here")]
    UnknownCertificate {
        /// What was given.
        what: String,
    },
    /// All that could be revoked is revoked already.
    #[error("every certificate of {what:?} is revoked already")]
    AlreadyRevoked {
        /// What was given.
        what: String,
    },
    /// What was revoked is in the index, and not in the revocation list.
    #[error(
        "{cause}; it is revoked in the index, and the list that servers read does not say so yet: repeat the command"
    )]
    Unlisted {
        /// Why the list was not written.
        cause: Box<Self>,
    },
    /// A name that both a server and a participant have.
    #[error("{what:?} is the name of several parties; give the identity: {}", list(.candidates))]
    AmbiguousName {
        /// What was given.
        what: String,
        /// Whom it can mean.
        candidates: Vec<Identity>,
    },
    /// The authority's files contradict each other or are broken.
    #[error("the authority in {} cannot be used: {what}", path.display())]
    Authority {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file that must not be replaced is there.
    #[error("{} is there already and is not replaced; move it away or name another place", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not of the kind that was to be written is there.
    #[error(
        "{} is there already and is {found}, which {new} does not replace; move it away or name another place with --out",
        path.display()
    )]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What was to be written.
        new: String,
    },
    /// What was to be written for a party would take the name of a file of the authority.
    #[error("{} is one of the authority's own files, which are never replaced; name another place with --out", path.display())]
    AuthoritysOwn {
        /// The file.
        path: PathBuf,
    },
    /// The system refused to read or write a file.
    #[error("cannot {doing} {}: {cause}", path.display())]
    File {
        /// `read`, `write`, `lock`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} cannot be shown: {what}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The cryptographic library refused; a bug, or a system without randomness.
    #[error("cannot {doing}: {what}")]
    Crypto {
        /// What was being made.
        doing: &'static str,
        /// What the library said.
        what: String,
    },
}

impl IssueError {
    /// Wraps what rcgen said while `doing` something that input cannot make fail.
    pub(crate) fn crypto(doing: &'static str) -> impl Fn(rcgen::Error) -> Self {
        move |error| Self::Crypto {
            doing,
            what: error.to_string(),
        }
    }
}

fn list(identities: &[Identity]) -> String {
    let texts: Vec<_> = identities.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
