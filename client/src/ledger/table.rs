//! The ledger as a table for a spreadsheet.

use super::entry::{Entry, Fact};

/// The columns.
const HEADER: [&str; 16] = [
    "number",
    "at",
    "kind",
    "connection",
    "run",
    "plan",
    "round",
    "what",
    "stream_bytes",
    "from",
    "to",
    "sha256",
    "epsilon",
    "datagrams",
    "datagram_bytes",
    "detail",
];

/// Writes entries as CSV (RFC 4180) with a header line; numbers are bytes, times are UTC.
///
/// # Errors
/// A sentence, if `csv` cannot write to memory.
pub fn to_csv(entries: &[Entry]) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(HEADER).and_then(|()| {
        entries
            .iter()
            .try_for_each(|entry| writer.write_record(row(entry)))
    });
    written.map_err(|error| error.to_string())?;
    let bytes = writer.into_inner().map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Whether these bytes are a table that [`to_csv`] made.
pub fn is_csv(bytes: &[u8]) -> bool {
    bytes.starts_with(HEADER.join(",").as_bytes())
}

fn row(entry: &Entry) -> [String; 16] {
    let mut row: [String; 16] = Default::default();
    let fact = &entry.fact;
    row[0] = entry.number.to_string();
    row[1] = entry.at.to_string();
    row[2] = fact.kind().to_owned();
    row[3] = fact
        .connection()
        .map(|number| number.to_string())
        .unwrap_or_default();
    let run = match fact {
        Fact::Transfer { run, .. } => Some(run),
        Fact::Message { run, .. } | Fact::Refused { run, .. } => run.as_ref(),
        _ => None,
    };
    if let Some(run) = run {
        (row[4], row[5]) = (run.run.clone(), run.plan.to_string());
    }
    if fact.stream_bytes() > 0 {
        row[8] = fact.stream_bytes().to_string();
    }
    describe(fact, &mut row);
    row
}

/// Fills the columns that only some kinds have.
fn describe(fact: &Fact, row: &mut [String; 16]) {
    match fact {
        Fact::Opened {
            site,
            certificate,
            public_key,
            software,
        } => {
            row[15] = format!("{site}, certificate {certificate}, key {public_key}, {software}");
        }
        Fact::Torn { bytes, sha256 } => {
            row[11] = sha256.to_string();
            row[15] = format!("{bytes} bytes of a line that was cut off were taken away");
        }
        Fact::Uncounted { .. } => row[15] = "its datagrams were not counted".to_owned(),
        Fact::Dial { address, .. } => (row[7], row[15]) = ("greeting".to_owned(), address.clone()),
        Fact::Connected {
            server,
            certificate,
            ..
        } => row[15] = format!("{server}, certificate {certificate}"),
        Fact::Message { message, round, .. } => {
            (row[6], row[7]) = (
                round.map(|round| round.to_string()).unwrap_or_default(),
                message.clone(),
            );
        }
        Fact::Transfer {
            round,
            sha256,
            from,
            to,
            epsilon,
            ..
        } => {
            (row[6], row[7]) = (round.to_string(), "update".to_owned());
            (row[9], row[10], row[11]) = (from.to_string(), to.to_string(), sha256.to_string());
            row[12] = epsilon
                .map(|epsilon| epsilon.to_string())
                .unwrap_or_default();
        }
        Fact::Closed {
            datagrams,
            datagram_bytes,
            stream_bytes,
            ..
        } => {
            (row[13], row[14]) = (datagrams.to_string(), datagram_bytes.to_string());
            row[15] = format!("{stream_bytes} bytes on streams");
        }
        Fact::Refused { reasons, .. } => row[15] = reasons.join("; "),
    }
}
