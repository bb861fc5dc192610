//! Arguments of the commands about the egress ledger.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The egress ledger: every byte that this site has sent
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum LedgerCommand {
    Show(LedgerShowArguments),
    Verify(LedgerVerifyArguments),
    Export(LedgerExportArguments),
}

/// Which ledger is meant.
#[derive(Debug, Args)]
pub(in crate::cli) struct LedgerFile {
    /// Configuration file (TOML) that names the ledger
    #[arg(long, value_name = "FILE", default_value = "client.toml")]
    pub(in crate::cli) config: PathBuf,
    /// The ledger itself, instead of the one that the configuration names
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) ledger: Option<PathBuf>,
}

/// Prints the ledger, one line per entry, and its sums
#[derive(Debug, Args)]
pub(in crate::cli) struct LedgerShowArguments {
    #[command(flatten)]
    pub(in crate::cli) file: LedgerFile,
    /// Print only this many of the last entries; the sums always cover all
    #[arg(long, value_name = "ENTRIES")]
    pub(in crate::cli) last: Option<usize>,
}

/// Verifies the chain and every signature, without any network
///
/// Prints the ledger's head, the SHA-256 of its last line. Keep it: with --head, a later verification notices if lines up to it were
/// cut off. Exits with 0 if the ledger is what this site wrote and with 1 if it is not.
#[derive(Debug, Args)]
pub(in crate::cli) struct LedgerVerifyArguments {
    #[command(flatten)]
    pub(in crate::cli) file: LedgerFile,
    /// Certificate of this site whose key may have signed; repeat the option for earlier ones [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) certificate: Vec<PathBuf>,
    /// Head kept from an earlier verification
    #[arg(long, value_name = "SHA-256")]
    pub(in crate::cli) head: Option<protocol::Digest>,
}

/// Writes the ledger as a table for a spreadsheet
#[derive(Debug, Args)]
pub(in crate::cli) struct LedgerExportArguments {
    #[command(flatten)]
    pub(in crate::cli) file: LedgerFile,
    /// File to write the table to (CSV, RFC 4180) [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) csv: Option<PathBuf>,
}
