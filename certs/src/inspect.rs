//! What is in a PEM file, for people and for reading an authority back.

use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

/// What an authority must know of its own certificate.
#[derive(Debug)]
pub(crate) struct AuthorityFacts {
    pub(crate) federation: String,
    pub(crate) public_key: Vec<u8>,
    pub(crate) expires: Timestamp,
}

impl AuthorityFacts {
    /// Reads an authority's certificate.
    pub(crate) fn read(pem: &str) -> Result<Self, String> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .map_err(|_| "its certificate is not PEM")?;
        let (_, certificate) =
            X509Certificate::from_der(&pem.contents).map_err(|_| "its certificate is not X.509")?;
        if !certificate.is_ca() {
            return Err("its certificate is not that of an authority".to_owned());
        }
        let federation = certificate
            .subject()
            .iter_organization()
            .next()
            .and_then(|name| name.as_str().ok())
            .filter(|name| protocol::identity::check_label(name).is_ok())
            .ok_or("its certificate names no federation as its organization")?;
        Ok(Self {
            federation: federation.to_owned(),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            expires: timestamp(certificate.validity().not_after)
                .ok_or("its certificate ends at no known time")?,
        })
    }
}

/// Reads the serial numbers that a revocation list names, in hexadecimal; none if it is no list.
pub(crate) fn revoked_serials(pem: &str) -> Option<BTreeSet<String>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let (_, list) = CertificateRevocationList::from_der(&pem.contents).ok()?;
    let revoked = list.iter_revoked_certificates();
    Some(revoked.map(|one| hex::encode(one.raw_serial())).collect())
}

/// Describes every block of a PEM text: certificates, requests, revocation lists. A private key
/// is named as one and not shown.
///
/// # Errors
/// A sentence saying what cannot be read.
pub fn describe(pem: &str, now: Timestamp) -> Result<String, String> {
    let mut text = String::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|error| format!("it is not PEM: {error}"))?;
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&describe_block(&block, now)?);
    }
    if text.is_empty() {
        return Err("there is no PEM block in it".to_owned());
    }
    Ok(text)
}

fn describe_block(block: &Pem, now: Timestamp) -> Result<String, String> {
    match block.label.as_str() {
        "CERTIFICATE" => {
            let parsed = X509Certificate::from_der(&block.contents);
            let (_, certificate) = parsed.map_err(|_| "its certificate is not X.509")?;
            Ok(describe_certificate(&certificate, now))
        }
        "CERTIFICATE REQUEST" => {
            let parsed = X509CertificationRequest::from_der(&block.contents);
            let (_, request) = parsed.map_err(|_| "its request is not PKCS #10")?;
            Ok(describe_request(&request))
        }
        "X509 CRL" => {
            let parsed = CertificateRevocationList::from_der(&block.contents);
            let (_, list) = parsed.map_err(|_| "its revocation list is not X.509")?;
            Ok(describe_list(&list, now))
        }
        label if label.ends_with("PRIVATE KEY") => Ok("Private key (not shown)\n".to_owned()),
        label => Err(format!("it has a PEM block of the unknown kind {label:?}")),
    }
}

fn describe_certificate(certificate: &X509Certificate<'_>, now: Timestamp) -> String {
    let kind = match certificate.is_ca() {
        true => "Certificate of an authority",
        false => "Certificate",
    };
    let mut page = Page::new(kind);
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        page.names(&names.value.general_names);
    }
    page.line("subject", &name(certificate.subject()));
    page.line("issuer", &name(certificate.issuer()));
    page.line("serial", &hex::encode(certificate.raw_serial()));
    page.line("key", key(certificate.public_key()));
    if let Ok(Some(usage)) = certificate.extended_key_usage() {
        let server = usage.value.server_auth.then_some("server");
        let client = usage.value.client_auth.then_some("client");
        let uses: Vec<_> = server.into_iter().chain(client).collect();
        page.line("may act as", &uses.join(", "));
    }
    page.line("valid from", &date(certificate.validity().not_before));
    let end = certificate.validity().not_after;
    page.line(
        "valid until",
        &format!("{} ({})", date(end), left(end, now)),
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.as_raw());
    page.line("sha-256", &hex::encode(digest.as_ref()));
    page.text
}

fn describe_request(request: &X509CertificationRequest<'_>) -> String {
    let mut page = Page::new("Request for a certificate");
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            page.names(&names.general_names);
        }
    }
    let info = &request.certification_request_info;
    page.line("subject", &name(&info.subject));
    page.line("key", key(&info.subject_pki));
    let proof = match request.verify_signature() {
        Ok(()) => "yes, the request is signed with its key",
        Err(_) => "NO: the signature is not by the key in the request",
    };
    page.line("proves its key", proof);
    page.text
}

fn describe_list(list: &CertificateRevocationList<'_>, now: Timestamp) -> String {
    let mut page = Page::new("Revocation list");
    page.line("issuer", &name(list.issuer()));
    if let Some(number) = list.crl_number() {
        page.line("number", &number.to_string());
    }
    page.line("made on", &date(list.last_update()));
    if let Some(next) = list.next_update() {
        page.line("next by", &format!("{} ({})", date(next), left(next, now)));
    }
    let mut count = 0;
    for revoked in list.iter_revoked_certificates() {
        count += 1;
        let when = date(revoked.revocation_date);
        page.line(
            "revoked",
            &format!("{} on {when}", hex::encode(revoked.raw_serial())),
        );
    }
    page.line("total", &format!("{count} revoked"));
    page.text
}

/// Lines of a label and a value.
struct Page {
    text: String,
}

impl Page {
    fn new(title: &str) -> Self {
        Self {
            text: format!("{title}\n"),
        }
    }

    /// Adds a line. Values come from files of strangers: control characters are escaped.
    fn line(&mut self, label: &str, value: &str) {
        let value = value.escape_debug();
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "  {label:<15}{value}");
    }

    fn names(&mut self, names: &[GeneralName<'_>]) {
        for name in names {
            match name {
                GeneralName::URI(uri) => self.line("identity", uri),
                GeneralName::DNSName(host) => self.line("host", host),
                GeneralName::IPAddress(bytes) => self.line("host", &address(bytes)),
                other => self.line("other name", &format!("{other:?}")),
            }
        }
    }
}

fn name(name: &X509Name<'_>) -> String {
    name.to_string()
}

fn key(key: &SubjectPublicKeyInfo<'_>) -> &'static str {
    match key.algorithm.algorithm == OID_SIG_ED25519 {
        true => "Ed25519",
        false => "another algorithm than Ed25519; Foedus does not take it",
    }
}

fn address(bytes: &[u8]) -> String {
    let v4: Result<[u8; 4], _> = bytes.try_into();
    let v6: Result<[u8; 16], _> = bytes.try_into();
    match (v4, v6) {
        (Ok(v4), _) => std::net::Ipv4Addr::from(v4).to_string(),
        (_, Ok(v6)) => std::net::Ipv6Addr::from(v6).to_string(),
        _ => hex::encode(bytes),
    }
}

fn timestamp(time: ASN1Time) -> Option<Timestamp> {
    Timestamp::from_second(time.timestamp()).ok()
}

fn date(time: ASN1Time) -> String {
    timestamp(time).map_or_else(|| "no known time".to_owned(), |time| time.to_string())
}

/// Says how long there is to `end`, in whole days.
fn left(end: ASN1Time, now: Timestamp) -> String {
    const DAY_SECONDS: i64 = 24 * 60 * 60;
    let seconds = end.timestamp().saturating_sub(now.as_second());
    let days = seconds.abs() / DAY_SECONDS;
    match seconds {
        0.. => format!("{days} days left"),
        _ => format!("EXPIRED {days} days ago"),
    }
}
