//! What a file that is in the way is, for whoever is to write over it: only a file of the same kind and party gives way.
//!
//! What it is not: no check of a certificate. Whether one can be used is the business of those who use it.

use std::fmt;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::Path;

use protocol::identity::Identity;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use crate::error::IssueError;
use crate::files::{self, failed};

/// Certificates and requests are far smaller; what is larger is not read.
const LARGEST: u64 = 64 * 1024;

const NO_PEM: &str = "no plain PEM file";

/// What a file is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A party's certificate, and nothing else.
    Certificate(Identity),
    /// A party's request, and nothing else.
    Request(Identity),
    /// Something that no command replaces, in words.
    Other(&'static str),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(identity) => write!(f, "the certificate of {identity}"),
            Self::Request(identity) => write!(f, "the request of {identity}"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// Refuses a place at which there is something else than a file of the kind that is to be written.
///
/// # Errors
/// [`IssueError::InTheWay`] if there is; [`IssueError::File`] from the system, also if the folder is not there.
pub(crate) fn gives_way(path: &Path, to: &Kind) -> Result<(), IssueError> {
    let folder = files::folder_of(path);
    fs::metadata(folder).map_err(|cause| failed("write", path, cause))?;
    match found(path)? {
        None => Ok(()),
        Some(found) if found == *to => Ok(()),
        Some(found) => Err(IssueError::InTheWay {
            path: path.to_owned(),
            found: found.to_string(),
            new: to.to_string(),
        }),
    }
}

/// Says what there is, and follows links.
fn found(path: &Path) -> Result<Option<Kind>, IssueError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            let link = path.is_symlink();
            return Ok(link.then_some(Kind::Other("a link to nothing")));
        }
        Err(cause) => return Err(failed("read", path, cause)),
    };
    if let Some(words) = unreadable(&metadata) {
        return Ok(Some(Kind::Other(words)));
    }
    match files::read(path) {
        Ok(text) => Ok(Some(of(&text))),
        Err(IssueError::File { cause, .. }) if cause.kind() == ErrorKind::InvalidData => {
            Ok(Some(Kind::Other(NO_PEM)))
        }
        Err(error) => Err(error),
    }
}

/// Says what a file is that need not be opened for that, or must not be: a pipe would be waited for.
fn unreadable(metadata: &Metadata) -> Option<&'static str> {
    match metadata {
        folder if folder.is_dir() => Some("a folder"),
        other if !other.is_file() => Some("neither a file nor a folder"),
        large if large.len() > LARGEST => Some(NO_PEM),
        _ => None,
    }
}

fn of(text: &str) -> Kind {
    let trimmed = text.trim();
    // Nobody's notes around the blocks are lost either.
    let plain = trimmed.starts_with("-----BEGIN ") && trimmed.ends_with("-----");
    let blocks: Result<Vec<_>, _> = Pem::iter_from_buffer(text.as_bytes()).collect();
    let Ok(blocks) = blocks else {
        return Kind::Other(NO_PEM);
    };
    let secret = |block: &Pem| block.label.ends_with("PRIVATE KEY");
    match blocks.as_slice() {
        [only] if secret(only) => Kind::Other("a private key"),
        several if several.iter().any(secret) => Kind::Other("a file with a private key"),
        [only] if plain => of_block(only),
        [_, _, ..] => Kind::Other("a file of several PEM blocks"),
        _ => Kind::Other(NO_PEM),
    }
}

fn of_block(block: &Pem) -> Kind {
    match block.label.as_str() {
        "CERTIFICATE" => of_certificate(&block.contents),
        "CERTIFICATE REQUEST" => match requested(&block.contents) {
            Some(identity) => Kind::Request(identity),
            None => Kind::Other("a request that names no party"),
        },
        "X509 CRL" => Kind::Other("a revocation list"),
        _ => Kind::Other("a PEM file of another kind"),
    }
}

fn of_certificate(der: &[u8]) -> Kind {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Kind::Other("a broken certificate");
    };
    if certificate.is_ca() {
        return Kind::Other("the certificate of an authority");
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    match names.and_then(|names| party(&names.value.general_names)) {
        Some(identity) => Kind::Certificate(identity),
        None => Kind::Other("a certificate that names no party"),
    }
}

fn requested(der: &[u8]) -> Option<Identity> {
    let (_, request) = X509CertificationRequest::from_der(der).ok()?;
    let mut extensions = request.requested_extensions()?;
    extensions.find_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => party(&names.general_names),
        _ => None,
    })
}

fn party(names: &[GeneralName<'_>]) -> Option<Identity> {
    names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.parse().ok(),
        _ => None,
    })
}
