//! One command each: what it does, and what it tells.

use std::fmt::Write;
use std::path::Path;

use jiff::Timestamp;
use protocol::identity::Identity;

use super::{Init, List, Renew, Request, Revoke, Show, Sign, complain};
use crate::authority::Authority;
use crate::error::IssueError;
use crate::files::{self, Readers};
use crate::folder::Folder;
use crate::inspect;
use crate::issued::Issued;
use crate::kind::{self, Kind};
use crate::request;
use crate::terms::{Terms, days_long};

impl Init {
    pub(super) fn run(&self, now: Timestamp) -> Result<String, IssueError> {
        let authority = Authority::create(&self.federation, now, days_long(self.days)?)?;
        let folder = Folder::create(&self.authority, authority, now)?;
        let path = self.authority.display();
        Ok(format!(
            "made the authority of {}, valid until {}\n  \
             {path}/ca.crt   give it to the server and to every institution\n  \
             {path}/crl.pem  likewise, and again after every change\n  \
             {path}/ca.key   keep it secret, and keep a copy off line\n",
            folder.authority().federation(),
            day(folder.authority().expires()),
        ))
    }
}

impl Request {
    pub(super) fn run(&self) -> Result<String, IssueError> {
        let identity = Identity::new(&self.federation, self.role, &self.name)?;
        let request = request::Request::new(identity)?;
        let key = self.out.join(format!("{}.key", self.name));
        let csr = self.out.join(format!("{}.csr", self.name));
        files::private_folder(&self.out)?;
        kind::gives_way(&csr, &Kind::Request(request.identity().clone()))?;
        files::create(&key, request.key_pem(), Readers::Owner)?;
        files::replace(&csr, request.request_pem(), Readers::Everybody)?;
        Ok(format!(
            "made a key and a request for {}\n  {}  stays on this machine\n  \
             {}  goes to the operator, who needs --role {} --name {}\n",
            request.identity(),
            key.display(),
            csr.display(),
            self.role,
            self.name,
        ))
    }
}

impl Sign {
    pub(super) fn run(&self, now: Timestamp) -> Result<String, IssueError> {
        let mut terms = Terms::new(self.role, &self.name, now, self.days)?;
        terms.hosts.clone_from(&self.hosts);
        let text = files::read(&self.request)?;
        let mut folder = open(&self.place.authority)?;
        let party = folder.authority().admitted(&text, &terms)?.identity;
        let by_default = self.request.with_extension("crt");
        let out = self.out.as_deref().unwrap_or(&by_default);
        may_write(out, party, &folder)?;
        let certificate = folder.sign(&text, &terms, now)?;
        files::replace(out, &certificate, Readers::Everybody)?;
        let signed = folder.authority().issued().last();
        let signed = signed.expect("signing put the certificate into the index");
        let mut text = format!(
            "signed {} for {}\n  serial {}, valid until {}\n",
            out.display(),
            signed.identity,
            signed.serial,
            day(signed.expires),
        );
        if let Some(other) = older(folder.authority().issued(), signed, now) {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "  it has another one, valid until {}; once the new one is in use: \
                 foedus-certs revoke {}",
                day(other.expires),
                other.serial,
            );
        }
        for (other, revoked) in revoked_keyless(folder.authority().issued(), &signed.identity) {
            let _ = writeln!(
                text,
                "  its certificate {} was revoked on {}, of which the index does not know the key: \
                 see that this request is of a new one",
                other.serial,
                day(revoked),
            );
        }
        Ok(text)
    }
}

/// Refuses to write a party's certificate over anything but an earlier one of it, before anything is signed.
fn may_write(out: &Path, party: Identity, folder: &Folder) -> Result<(), IssueError> {
    folder.spares(out)?;
    kind::gives_way(out, &Kind::Certificate(party))
}

/// Returns a party's revoked certificates from the time when the index had no keys, and when each was revoked.
fn revoked_keyless<'a>(
    all: &'a [Issued],
    party: &'a Identity,
) -> impl Iterator<Item = (&'a Issued, Timestamp)> {
    let theirs = all
        .iter()
        .filter(move |other| other.identity == *party && other.key.is_none());
    theirs.filter_map(|other| Some((other, other.revoked?)))
}

/// Returns another certificate of the same party, for another key, that can still be used. To revoke one for the same key would
/// keep the key from being signed again.
fn older<'a>(all: &'a [Issued], new: &Issued, now: Timestamp) -> Option<&'a Issued> {
    all.iter().find(|other| {
        other.identity == new.identity
            && other.serial != new.serial
            && other.key != new.key
            && other.revoked.is_none()
            && other.expires > now
    })
}

impl Revoke {
    pub(super) fn run(&self, now: Timestamp) -> Result<String, IssueError> {
        let mut folder = Folder::open(&self.place.authority)?;
        let revoked = folder.revoke(&self.what, now)?;
        let mut text = String::new();
        for Issued {
            serial,
            identity,
            revoked,
            ..
        } in revoked
        {
            // Writing to a string cannot fail.
            let _ = match revoked.filter(|&when| when != now) {
                None => writeln!(text, "revoked {serial} of {identity}"),
                Some(when) => writeln!(
                    text,
                    "{serial} of {identity} was revoked on {} already, and the list did not have it",
                    day(when)
                ),
            };
        }
        text.push_str(&hand_out(&folder.revocations()));
        Ok(text)
    }
}

impl Renew {
    pub(super) fn run(&self, now: Timestamp) -> Result<String, IssueError> {
        let mut folder = Folder::open(&self.place.authority)?;
        let Some(path) = &self.certificate else {
            folder.renew_list(now)?;
            return Ok(hand_out(&folder.revocations()));
        };
        warn_of_unlisted(&folder);
        let earlier = files::read(path)?;
        let party = folder.authority().renewable(&earlier, now)?.identity;
        let out = self.out.as_deref().unwrap_or(path);
        may_write(out, party, &folder)?;
        let certificate = folder.renew(&earlier, self.days, now)?;
        files::replace(out, &certificate, Readers::Everybody)?;
        let signed = folder.authority().issued().last();
        let signed = signed.expect("signing put the certificate into the index");
        Ok(format!(
            "renewed {} for {}\n  serial {}, valid until {}\n  \
             put it in place of the old one: running programs take it up by themselves\n",
            out.display(),
            signed.identity,
            signed.serial,
            day(signed.expires),
        ))
    }
}

/// Opens an authority for a command that does not write its revocation list.
fn open(authority: &Path) -> Result<Folder, IssueError> {
    let folder = Folder::open(authority)?;
    warn_of_unlisted(&folder);
    Ok(folder)
}

/// A revocation that failed halfway must not go unnoticed: servers go by the list.
fn warn_of_unlisted(folder: &Folder) {
    for Issued {
        serial, identity, ..
    } in folder.unlisted()
    {
        complain(&format!(
            "{serial} of {identity} is revoked, and {} does not say so: foedus-certs renew writes the list again",
            folder.revocations().display()
        ));
    }
}

fn hand_out(list: &Path) -> String {
    format!(
        "  {}  is new: copy it to the server, and to the institutions\n",
        list.display()
    )
}

impl List {
    pub(super) fn run(&self, now: Timestamp) -> Result<String, IssueError> {
        let folder = open(&self.place.authority)?;
        let mut text = String::new();
        for entry in folder.authority().issued() {
            let Issued {
                serial, identity, ..
            } = entry;
            let _ = writeln!(text, "{serial}  {:<22}  {identity}", state(entry, now));
        }
        Ok(text)
    }
}

fn state(entry: &Issued, now: Timestamp) -> String {
    match entry.revoked {
        Some(when) => format!("revoked {}", day(when)),
        None if entry.expires <= now => format!("expired {}", day(entry.expires)),
        None => format!("valid until {}", day(entry.expires)),
    }
}

impl Show {
    pub(super) fn run(&self, now: Timestamp) -> Result<String, IssueError> {
        let pem = files::read(&self.file)?;
        inspect::describe(&pem, now).map_err(|what| IssueError::Unreadable {
            path: self.file.clone(),
            what,
        })
    }
}

/// Returns the day in UTC.
fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}
