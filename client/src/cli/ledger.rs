//! `foedus-client ledger`: what this site has sent, for its officer: to read, to verify, to take along.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use protocol::{Digest, quic::PartyCertificate};

use super::{
    answer::say,
    arguments::{
        LedgerCommand, LedgerExportArguments, LedgerFile, LedgerShowArguments,
        LedgerVerifyArguments,
    },
    failure::Failure,
    output::Kind,
    progress::tell,
};
use crate::{
    Config,
    config::Bytes,
    kept_head::KeptHead,
    ledger::{self, Entry, Fact, Reading, Totals},
};

pub(super) fn ledger(command: &LedgerCommand) -> Result<(), Failure> {
    match command {
        LedgerCommand::Show(arguments) => show(arguments),
        LedgerCommand::Verify(arguments) => verify(arguments),
        LedgerCommand::Export(arguments) => export(arguments),
    }
}

fn show(arguments: &LedgerShowArguments) -> Result<(), Failure> {
    let (path, reading) = read(&arguments.file)?;
    let skipped = arguments
        .last
        .map_or(0, |last| reading.entries.len().saturating_sub(last));
    for entry in reading.entries.iter().skip(skipped) {
        say!("{}", sentence(entry))?;
    }
    say!("{}", summary(&reading.totals))?;
    say!(
        "{}: signatures are not looked at here: foedus-client ledger verify does",
        path.display()
    )?;
    Ok(())
}

fn verify(arguments: &LedgerVerifyArguments) -> Result<(), Failure> {
    let path = path_of(&arguments.file)?;
    let mut certificates = arguments.certificate.clone();
    if certificates.is_empty() {
        certificates.push(Config::read(&arguments.file.config)?.tls.certificate);
    }
    let keys: Result<BTreeSet<Digest>, _> = certificates.iter().map(|file| key_in(file)).collect();
    let head = KeptHead::beside(&path).map_err(anyhow::Error::from)?;
    let bytes = bytes_of(&path)?;
    let foreign = || format!("{} is not what this site wrote", path.display());
    let verified = ledger::verify(&bytes, &keys?, arguments.head).with_context(foreign)?;
    let whole = verified.reading.check_head(head.as_ref());
    whole.with_context(foreign)?;
    let reading = &verified.reading;
    say!("{}", summary(&reading.totals))?;
    if let Some(tail) = reading.tail {
        say!(
            "after the last whole line stand {} bytes of one that was cut off; the next run takes them away",
            tail.bytes
        )?;
    }
    if head.is_none() {
        say!("no head is kept beside it: lines that are missing at its end show only by --head")?;
    }
    say!(
        "{}: {} lines, unbroken, signed by {} accepted key(s)\nhead {}",
        path.display(),
        reading.entries.len(),
        verified.keys.len(),
        reading.head
    )?;
    Ok(())
}

/// What `export` writes.
const TABLE: Kind = Kind {
    name: "table of a ledger",
    is: ledger::is_csv,
};

fn export(arguments: &LedgerExportArguments) -> Result<(), Failure> {
    let (path, reading) = read(&arguments.file)?;
    tell(format_args!(
        "{}: the chain is unbroken; nobody looked at signatures (`ledger verify` does)",
        path.display()
    ));
    let table = ledger::to_csv(&reading.entries).map_err(anyhow::Error::msg)?;
    match &arguments.csv {
        Some(file) => TABLE.write(file, table.as_bytes())?,
        None => say!("{}", table.trim_end())?,
    }
    Ok(())
}

fn path_of(file: &LedgerFile) -> Result<PathBuf, Failure> {
    match &file.ledger {
        Some(path) => Ok(path.clone()),
        None => Ok(Config::read(&file.config)?.ledger),
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?)
}

fn read(file: &LedgerFile) -> Result<(PathBuf, Reading), Failure> {
    let path = path_of(file)?;
    let reading = Reading::of(&bytes_of(&path)?);
    let reading = reading.with_context(|| format!("{} is damaged", path.display()))?;
    Ok((path, reading))
}

fn key_in(certificate: &Path) -> Result<Digest, Failure> {
    let named = || certificate.display().to_string();
    let text = std::fs::read_to_string(certificate).with_context(named)?;
    let read = PartyCertificate::from_pem(&text).with_context(named)?;
    Ok(Digest(read.public_key))
}

/// One entry for people.
fn sentence(entry: &Entry) -> String {
    let what = match &entry.fact {
        Fact::Opened { site, software, .. } => format!("{software} opens the ledger for {site}"),
        Fact::Torn { bytes, .. } => format!(
            "{bytes} bytes of a line that a crash cut off were taken away; nothing had left for it"
        ),
        Fact::Uncounted { connection } => {
            format!("connection {connection}: its process ended before its datagrams were counted")
        }
        Fact::Dial {
            connection,
            address,
            bytes,
        } => format!("connection {connection} to {address}: greeting, {bytes} bytes"),
        Fact::Connected {
            connection, server, ..
        } => format!("connection {connection} is with {server}"),
        Fact::Message {
            connection,
            message,
            round,
            bytes,
            ..
        } => {
            let round = round
                .map(|round| format!(" of round {round}"))
                .unwrap_or_default();
            format!("connection {connection}: {message}{round}, {bytes} bytes")
        }
        Fact::Transfer {
            connection,
            run,
            round,
            sha256,
            from,
            to,
            header_bytes,
            epsilon,
            ..
        } => {
            let epsilon = epsilon
                .map(|epsilon| format!(", epsilon so far {epsilon:.3}"))
                .unwrap_or_default();
            format!(
                "connection {connection}: update of round {round} of run {}, bytes {from} to {to} and a header of {header_bytes}, \
                 sha-256 {sha256}{epsilon}",
                run.run
            )
        }
        Fact::Closed {
            connection,
            datagrams,
            datagram_bytes,
            stream_bytes,
        } => format!(
            "connection {connection} is over: {datagrams} datagrams with {datagram_bytes} bytes, {stream_bytes} of them ours, the rest QUIC and TLS"
        ),
        Fact::Refused { run, reasons } => {
            let run = run
                .as_ref()
                .map(|run| format!(" in run {}", run.run))
                .unwrap_or_default();
            format!("refused{run}: {}", reasons.join("; "))
        }
    };
    format!("{} {} {what}", entry.number, entry.at)
}

fn summary(totals: &Totals) -> String {
    let (transfers, datagrams, greetings) =
        (totals.transfers(), totals.datagrams(), totals.greetings());
    let mut text = format!(
        "handed to streams: {} bytes ({})\n    {} updates or parts of one: {} bytes with their headers\n    {} greetings: {} bytes",
        totals.stream_bytes(),
        Bytes(totals.stream_bytes()),
        transfers.count,
        transfers.bytes,
        greetings.count,
        greetings.bytes
    );
    for (name, sum) in totals.messages() {
        text += &format!("\n    {} {name}: {} bytes", sum.count, sum.bytes);
    }
    text += &format!(
        "\nsent by the sockets: {} datagrams with {} bytes",
        datagrams.count, datagrams.bytes
    );
    let (uncounted, open) = (
        totals.uncounted_connections(),
        totals.open_connections().len(),
    );
    if uncounted > 0 || open > 0 {
        text += &format!(
            "; without {uncounted} connections that were never counted and {open} that are not over"
        );
    }
    text + &format!("\nrefusals: {}", totals.refusals())
}
