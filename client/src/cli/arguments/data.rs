//! The arguments of `foedus-client data`.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Subcommand};

/// Training text: what it is like before anybody trains on it
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DataCommand {
    Check(DataCheckArguments),
}

/// Says what a training would refuse, cut, see twice or learn unevenly
///
/// Looks at every record: whether it can be read, how long it is, whether it says what an earlier one says or answers the same question
/// otherwise, whether its text is tidy. Shows numbers and lines and no text, but for the values of the field that --balance-by names.
/// Exits with 0 if a run would read every record and with 1 if not.
#[derive(Debug, Args)]
pub(in crate::cli) struct DataCheckArguments {
    /// Base model, whose tokenizer counts: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) model: PathBuf,
    /// Training text: one JSON record per line ({"text"}, {"prompt","completion"} or {"messages"})
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) data: PathBuf,
    /// Held-out text: records that are in both files are named
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) eval: Option<PathBuf>,
    /// Longest example in tokens; longer ones would be cut
    #[arg(long, default_value_t = 512)]
    pub(in crate::cli) max_tokens: usize,
    /// Field of the records whose values are counted, for example a ward or a language
    #[arg(long, value_name = "FIELD")]
    pub(in crate::cli) balance_by: Option<String>,
    /// Write a cleaned copy to this new file: tidy, without records that cannot be read, repeats and what is held out
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) write: Option<PathBuf>,
    /// Let at most so many records of each value into the copy
    #[arg(long, value_name = "N", requires_all = ["balance_by", "write"])]
    pub(in crate::cli) at_most: Option<NonZeroUsize>,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
