//! The certificate authority of a federation: a library, and the program `foedus-certs`.
//!
//! The operator keeps one Ed25519 [`Authority`] and signs the [`Request`]s of the server and of the
//! institutions, whose private keys never leave the machine they were made on. An identity is the
//! URI `foedus://FEDERATION/ROLE/NAME` in the certificate (see [`protocol::identity`]). Time is an
//! argument; randomness for keys and serial numbers is the system's.
//!
//! What it is not: no online service, no intermediate authorities, no OCSP. Revocation is a list
//! (RFC 5280, section 5) in a file that the operator hands to the server and the sites.

pub mod authority;
pub mod folder;
pub mod inspect;
pub mod issued;
pub mod renewal;
mod request;
pub mod throwaway;

mod cli;
mod error;
mod files;
mod key;
mod kind;
mod terms;

pub use authority::Authority;
pub use cli::main;
pub use error::IssueError;
pub use folder::Folder;
pub use issued::Issued;
pub use request::Request;
pub use terms::{Host, Terms};
