//! The arguments of private training and of `foedus-client privacy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Plans and shows what private training costs
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PrivacyCommand {
    Plan(PrivacyPlanArguments),
    Spent(PrivacySpentArguments),
}

/// Computes the noise needed for a given epsilon
///
/// Records are protected one by one, or person by person if records are grouped; --examples is then the number of persons. A record
/// joins each step with probability batch / examples. Prints the noise, what to write into server.toml, and tables of the noise that
/// other choices would need.
#[derive(Debug, Args)]
pub(in crate::cli) struct PrivacyPlanArguments {
    /// Epsilon of the whole training
    #[arg(long, value_name = "EPSILON")]
    pub(in crate::cli) target_epsilon: f64,
    /// Delta of the guarantee; at most 1 / number of records
    #[arg(long, default_value_t = 1e-5)]
    pub(in crate::cli) delta: f64,
    /// Records (or persons) of the site; in a federation, of the site with the fewest
    #[arg(long, value_name = "N")]
    pub(in crate::cli) examples: u64,
    /// Records that a step reads on average
    #[arg(long, value_name = "N")]
    pub(in crate::cli) batch: u64,
    /// Steps of the whole training, all rounds together
    #[arg(long, value_name = "N")]
    pub(in crate::cli) steps: u64,
    /// Ledger of what the same data has cost before; the target then covers past and planned training
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) ledger: Option<PathBuf>,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Shows what private training has cost a site's records so far
#[derive(Debug, Args)]
pub(in crate::cli) struct PrivacySpentArguments {
    /// The ledger: `ledger` under `privacy` in client.toml, or the data's file with ".privacy"
    pub(in crate::cli) ledger: PathBuf,
    /// Delta for which epsilon is computed
    #[arg(long, default_value_t = 1e-5)]
    pub(in crate::cli) delta: f64,
    /// Print the result as one line of JSON, every entry included
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Differential privacy of the records trained on.
#[derive(Debug, Args)]
pub(in crate::cli) struct PrivateArguments {
    /// Train privately (DP-SGD): a record's gradient is clipped, and noise from the operating system's randomness is added to every step
    #[arg(long)]
    pub(in crate::cli) dp: bool,
    /// What all private training on the data may cost, this run included
    #[arg(long, default_value_t = 8.0, requires = "dp", value_name = "EPSILON")]
    pub(in crate::cli) dp_epsilon: f64,
    /// Delta of the guarantee; at most 1 / number of records
    #[arg(long, default_value_t = 1e-5, requires = "dp", value_name = "DELTA")]
    pub(in crate::cli) dp_delta: f64,
    /// Noise divided by the clipping norm [default: the least that keeps all steps within --dp-epsilon]
    #[arg(long, requires = "dp", value_name = "FACTOR")]
    pub(in crate::cli) dp_noise: Option<f64>,
    /// Largest norm of one record's gradient
    #[arg(long, default_value_t = 1.0, requires = "dp", value_name = "NORM")]
    pub(in crate::cli) dp_clip_norm: f64,
    /// Field that tells which records belong to one person; a person's records are then protected as one
    #[arg(long, requires = "dp", value_name = "FIELD")]
    pub(in crate::cli) dp_group_by: Option<String>,
    /// Largest number of records of one person that a step reads
    #[arg(long, default_value_t = 8, requires = "dp_group_by", value_name = "N")]
    pub(in crate::cli) dp_records_max: usize,
    /// File in which private steps are counted before they are done [default: the data's file with ".privacy"]
    #[arg(long, requires = "dp", value_name = "FILE")]
    pub(in crate::cli) dp_ledger: Option<PathBuf>,
    /// The site's policy: what its `[privacy]` section says bounds this training and all on the data, and its ledger counts
    #[arg(long, requires = "dp", value_name = "FILE")]
    pub(in crate::cli) dp_policy: Option<PathBuf>,
}
