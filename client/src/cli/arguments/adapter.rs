//! Arguments of the commands about adapters.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::LoraArguments;

/// Makes and inspects adapters
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AdapterCommand {
    New(AdapterNewArguments),
    Show(AdapterShowArguments),
}

/// Makes the fresh adapter that a run starts from
///
/// B is zero, so the model with this adapter still equals the base. foedus-server's key `start` names the folder; its layout, rank and
/// scale become the run's. The weights of the model are not loaded.
#[derive(Debug, Args)]
pub(in crate::cli) struct AdapterNewArguments {
    /// Base model: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) model: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) lora: LoraArguments,
    /// Seed of the factors A
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) seed: u64,
    /// Folder to write; it may contain nothing but an earlier adapter
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) out: PathBuf,
}

/// Shows the contents of an adapter's folder
#[derive(Debug, Args)]
pub(in crate::cli) struct AdapterShowArguments {
    /// The folder (PEFT format)
    pub(in crate::cli) folder: PathBuf,
    /// Print it as one line of JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
