//! The arguments of every subcommand, with the help that explains them.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use finetune::{device::DeviceChoice, lora::Projection, precision::BasePrecision};

mod adapter;
mod bench;
mod data;
mod ledger;
mod privacy;
mod training;

pub(super) use self::adapter::{AdapterCommand, AdapterNewArguments, AdapterShowArguments};
pub(super) use self::bench::{
    BenchCommand, BenchProductsArguments, BenchTrainArguments, Shape, Targets,
};
pub(super) use self::data::{DataCheckArguments, DataCommand};
pub(super) use self::ledger::{
    LedgerCommand, LedgerExportArguments, LedgerFile, LedgerShowArguments, LedgerVerifyArguments,
};
pub(super) use self::privacy::{
    PrivacyCommand, PrivacyPlanArguments, PrivacySpentArguments, PrivateArguments,
};
pub(super) use self::training::{RecipeArguments, TrainArguments};
use crate::telemetry::LogFormat;

/// Fine-tunes a language model together with other institutions, without showing them your text.
///
/// `foedus-client run` takes part in a federated run: it connects to a foedus-server, checks the server's signed plan, trains a LoRA
/// adapter on this site's text, and sends the change of the adapter, never the text. The other commands work alone, without any
/// network: they make and inspect adapters, train, evaluate and try out models.
#[derive(Debug, Parser)]
#[command(name = "foedus-client", version, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) log: LogArguments,
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 64 wrong usage; 78 wrong configuration; 75 a temporary obstacle, try again later \
(server away, quorum not met); 1 anything else.";

#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// Form of the log on stderr: "text" or "json"
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    /// What is logged, in the syntax of RUST_LOG (which overrides this if set), for example "info" or "client=debug"
    #[arg(long, global = true, value_name = "FILTER")]
    pub(super) log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(RunArguments),
    Train(Box<TrainArguments>),
    Evaluate(EvaluateArguments),
    Generate(GenerateArguments),
    Fisher(FisherArguments),
    #[command(subcommand)]
    Adapter(AdapterCommand),
    Audit(Box<AuditArguments>),
    #[command(subcommand)]
    Data(DataCommand),
    #[command(subcommand)]
    Policy(PolicyCommand),
    #[command(subcommand)]
    Ledger(LedgerCommand),
    #[command(subcommand)]
    Privacy(PrivacyCommand),
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// Takes part in a federated run
///
/// Exits when the run is over, after writing the final adapter (PEFT format). Ctrl-C or SIGTERM leaves the run in good order.
/// client.example.toml is a complete configuration file that explains every key.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Only check the configuration, the files that it names (every record included) and that a run's results can be written;
    /// connect to nobody
    #[arg(long)]
    pub(super) check: bool,
}

/// Measures what training on this site's text would give away, before you agree to it
///
/// Trains alone, as a plan or the options say, with planted secrets, then attacks the result: can the secrets be guessed, can records be
/// recognised, can words be read from an update? A plan's anchor is left out, because it does not protect text. Nothing leaves the
/// machine. Writes audit.html and audit.json. If simple attacks find nothing, that is not a proof.
#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    /// Configuration file (TOML): the model, the training text and the device
    #[arg(long, value_name = "FILE", default_value = "client.toml")]
    pub(super) config: PathBuf,
    /// Signed plan whose settings are audited, instead of the options below; see foedus-server --write-plan
    #[arg(long, value_name = "FILE")]
    pub(super) plan: Option<PathBuf>,
    /// Folder to write the report to
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) lora: LoraArguments,
    #[command(flatten)]
    pub(super) recipe: RecipeArguments,
    /// Number of random secrets among which a planted one is ranked
    #[arg(long, default_value_t = 1000)]
    pub(super) candidates: usize,
    /// Number of secrets that are planted or not by the toss of a coin, for the bound on epsilon
    #[arg(long, default_value_t = 128)]
    pub(super) coins: usize,
}

/// The institution's policy: what a run plan may ask of this site
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    Check(PolicyCheckArguments),
}

/// Says whether this site's policy allows a run plan, and names every line of the policy that the plan breaks
///
/// The operator writes the plan with `foedus-server --config server.toml --write-plan FILE`. The signature and the signer's
/// certificate are checked as on a connection. Exits with 0 if the plan is allowed and with 1 if it is not.
#[derive(Debug, Args)]
pub(super) struct PolicyCheckArguments {
    /// Signed plan, as foedus-server writes it
    #[arg(value_name = "PLAN")]
    pub(super) plan: PathBuf,
    /// Configuration file (TOML) that names the policy
    #[arg(long, value_name = "FILE", default_value = "client.toml")]
    pub(super) config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ModelArguments {
    /// Base model: a Hugging Face folder (config.json, tokenizer.json, *.safetensors) or a GGUF file
    #[arg(long, value_name = "PATH")]
    pub(super) model: PathBuf,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(super) device: DeviceChoice,
    /// Precision in which the base model is kept: f32, bf16, int8 or nf4; auto is f32 on the CPU and bf16 on CUDA
    #[arg(long, default_value = "auto", value_name = "PRECISION")]
    pub(super) base_precision: BasePrecision,
}

/// Shape and start of an adapter.
#[derive(Debug, Args)]
pub(super) struct LoraArguments {
    /// Rank of the factors A and B
    #[arg(long, default_value_t = 16)]
    pub(super) rank: usize,
    /// Numerator of the scale alpha / rank
    #[arg(long, default_value_t = 32.0)]
    pub(super) alpha: f64,
    /// Scale by alpha / sqrt(rank) instead (rsLoRA)
    #[arg(long)]
    pub(super) rslora: bool,
    /// Share of the adapter's inputs that is dropped in training
    #[arg(long, default_value_t = 0.1)]
    pub(super) dropout: f64,
    /// Projections to adapt: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "q_proj,v_proj",
        value_name = "NAMES"
    )]
    pub(super) target_modules: Vec<Projection>,
}

/// Measures a model on held-out text: mean loss and perplexity over the response tokens
#[derive(Debug, Args)]
pub(super) struct EvaluateArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// Adapter on top of the base (PEFT format)
    #[arg(long, value_name = "DIR")]
    pub(super) adapter: Option<PathBuf>,
    /// Held-out text: one JSON record per line, or a .txt file with a blank line between passages
    #[arg(long, value_name = "FILE")]
    pub(super) data: PathBuf,
    /// Longest example in tokens; longer ones are cut
    #[arg(long, default_value_t = 512)]
    pub(super) max_tokens: usize,
    /// Also have the model answer so many of the questions, spread over the file, and compare with the wanted answers: how many are the
    /// same, BLEU (as sacreBLEU), and how varied they are (Distinct-1 and -2)
    #[arg(long, value_name = "N")]
    pub(super) answers: Option<NonZeroUsize>,
    /// Maximum number of tokens of such an answer
    #[arg(long, default_value_t = 128, requires = "answers")]
    pub(super) max_new_tokens: usize,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Has a model answer a prompt
///
/// The prompt becomes the user's turn in the model's chat template, if it has one; with --raw the model continues it as plain text.
#[derive(Debug, Args)]
pub(super) struct GenerateArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// Adapter on top of the base (PEFT format)
    #[arg(long, value_name = "DIR")]
    pub(super) adapter: Option<PathBuf>,
    /// Prompt to answer
    #[arg(long, value_name = "TEXT")]
    pub(super) prompt: String,
    /// Continue the prompt as it stands, without a chat template
    #[arg(long)]
    pub(super) raw: bool,
    /// Maximum number of tokens to generate
    #[arg(long, default_value_t = 128)]
    pub(super) max_new_tokens: usize,
    /// Randomness; 0 always picks the likeliest token
    #[arg(long, default_value_t = 0.0)]
    pub(super) temperature: f64,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    pub(super) top_p: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

/// Computes the anchor that keeps a model from forgetting
///
/// The anchor is the factored Fisher information of the base model on general, public text: how much each weight matters to what the
/// base already knows. The server's run plan names the file's SHA-256.
#[derive(Debug, Args)]
pub(super) struct FisherArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// General text: one JSON record per line, or a .txt file with a blank line between passages
    #[arg(long, value_name = "FILE")]
    pub(super) data: PathBuf,
    /// File to write the anchor to (safetensors)
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// Projections that adapters will change
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "q_proj,v_proj",
        value_name = "NAMES"
    )]
    pub(super) target_modules: Vec<Projection>,
    /// Longest passage in tokens; longer ones are cut
    #[arg(long, default_value_t = 512)]
    pub(super) max_tokens: usize,
    /// Seed of the sampled labels
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}
