//! The arguments of every subcommand, with the help that explains them.

use std::{num::NonZeroU64, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use finetune::{
    device::DeviceChoice, lora::Projection, model::Checkpointing, precision::BasePrecision,
    schedule::Schedule,
};

mod bench;
mod privacy;

pub(super) use self::bench::{
    BenchCommand, BenchProductsArguments, BenchTrainArguments, Shape, Targets,
};
pub(super) use self::privacy::{
    PrivacyCommand, PrivacyPlanArguments, PrivacySpentArguments, PrivateArguments,
};
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
    /// What is logged, in the syntax of RUST_LOG (which wins if set), for example "info" or "client=debug"
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
/// Ends when the run is over and writes the final adapter (PEFT format). Ctrl-C or SIGTERM leaves the run in good order.
/// A complete configuration file with every key explained is client.example.toml.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Only check the configuration, the files that it names, every record among them, and that what a run writes can be written;
    /// connect to nobody
    #[arg(long)]
    pub(super) check: bool,
}

/// Measures what a training on this site's text would give away, before saying yes
///
/// Trains alone, as a plan or the options say, with planted secrets, then attacks the result: can the secrets be guessed, can records be
/// recognised, can words be read from an update? A plan's anchor is left out: it protects no text. Nothing leaves the machine. Writes
/// audit.html and audit.json. Simple attacks that find nothing are no proof.
#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    /// Configuration file (TOML): the model, the training text and the device
    #[arg(long, value_name = "FILE", default_value = "client.toml")]
    pub(super) config: PathBuf,
    /// Signed plan whose settings are audited, instead of the options below; see foedus-server --write-plan
    #[arg(long, value_name = "FILE")]
    pub(super) plan: Option<PathBuf>,
    /// Folder that the report is written to
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) lora: LoraArguments,
    #[command(flatten)]
    pub(super) recipe: RecipeArguments,
    /// Random secrets among which a planted one's rank is found
    #[arg(long, default_value_t = 1000)]
    pub(super) candidates: usize,
    /// Secrets that are planted or not by the toss of a coin, for the bound on epsilon
    #[arg(long, default_value_t = 128)]
    pub(super) coins: usize,
}

/// The institution's policy: what a run plan may ask of this site
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    Check(PolicyCheckArguments),
}

/// Says whether this site's policy allows a run plan, and names every line that it breaks
///
/// The operator writes the plan with `foedus-server --config server.toml --write-plan FILE`. The signature, and the certificate of
/// whoever signed, are checked as on a connection. Ends with 0 if the plan is allowed and with 1 if it is not.
#[derive(Debug, Args)]
pub(super) struct PolicyCheckArguments {
    /// Signed plan, as foedus-server writes it
    #[arg(value_name = "PLAN")]
    pub(super) plan: PathBuf,
    /// Configuration file (TOML) that names the policy
    #[arg(long, value_name = "FILE", default_value = "client.toml")]
    pub(super) config: PathBuf,
}

/// The egress ledger: every byte that this site has sent
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    Show(LedgerShowArguments),
    Verify(LedgerVerifyArguments),
    Export(LedgerExportArguments),
}

/// Which ledger is meant.
#[derive(Debug, Args)]
pub(super) struct LedgerFile {
    /// Configuration file (TOML) that names the ledger
    #[arg(long, value_name = "FILE", default_value = "client.toml")]
    pub(super) config: PathBuf,
    /// The ledger itself, instead of the one that the configuration names
    #[arg(long, value_name = "FILE")]
    pub(super) ledger: Option<PathBuf>,
}

/// Prints the ledger, a line an entry, and its sums
#[derive(Debug, Args)]
pub(super) struct LedgerShowArguments {
    #[command(flatten)]
    pub(super) file: LedgerFile,
    /// Only the last so many entries; the sums are always of all
    #[arg(long, value_name = "ENTRIES")]
    pub(super) last: Option<usize>,
}

/// Verifies the chain and every signature, without any network
///
/// Prints the ledger's head, the SHA-256 of its last line. Keep it: with --head a later verification notices if lines before it were cut
/// off. Ends with 0 if the ledger is what this site wrote and with 1 if it is not.
#[derive(Debug, Args)]
pub(super) struct LedgerVerifyArguments {
    #[command(flatten)]
    pub(super) file: LedgerFile,
    /// Certificate of this site whose key may have signed; repeat it for earlier ones [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    pub(super) certificate: Vec<PathBuf>,
    /// A head that was kept from an earlier verification
    #[arg(long, value_name = "SHA-256")]
    pub(super) head: Option<protocol::Digest>,
}

/// Writes the ledger as a table for a spreadsheet
#[derive(Debug, Args)]
pub(super) struct LedgerExportArguments {
    #[command(flatten)]
    pub(super) file: LedgerFile,
    /// File for the table (CSV, RFC 4180) [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ModelArguments {
    /// Base model: a Hugging Face folder (config.json, tokenizer.json, *.safetensors) or a GGUF file
    #[arg(long, value_name = "PATH")]
    pub(super) model: PathBuf,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(super) device: DeviceChoice,
    /// How the base is kept: f32, bf16, int8 or nf4; auto is f32 on the CPU and bf16 on CUDA
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
    /// Share of the adapter's inputs dropped while training
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

/// Trains an adapter alone, on this machine only
///
/// The baseline for everything federated: the same recipe, data order and optimizer, without the others.
#[derive(Debug, Args)]
pub(super) struct TrainArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// Training text: one JSON record a line ({"text"}, {"prompt","completion"} or {"messages"})
    #[arg(long, value_name = "FILE")]
    pub(super) data: PathBuf,
    /// Held-out text; evaluated before and after
    #[arg(long, value_name = "FILE")]
    pub(super) eval: Option<PathBuf>,
    /// Folder that the adapter is written to (PEFT format); it may hold nothing but an earlier adapter
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Adapter to start from, instead of a fresh one; its rank, scale and modules then hold
    #[arg(long, value_name = "DIR")]
    pub(super) start: Option<PathBuf>,
    #[command(flatten)]
    pub(super) lora: LoraArguments,
    #[command(flatten)]
    pub(super) recipe: RecipeArguments,
    #[command(flatten)]
    pub(super) private: PrivateArguments,
    /// Anchor (from `foedus-client fisher`) that pulls the adapter back to what the base knew
    #[arg(long, value_name = "FILE", requires = "lambda")]
    pub(super) anchor: Option<PathBuf>,
    /// Strength of the anchor; 0.1 to 3 is the useful range
    #[arg(long, requires = "anchor")]
    pub(super) lambda: Option<f64>,
    /// Evaluate the held-out text every so many steps
    #[arg(long, value_name = "STEPS", requires = "eval")]
    pub(super) eval_every: Option<NonZeroU64>,
    /// Stop early after so many evaluations without a lower loss, and keep the adapter of the lowest
    #[arg(long, value_name = "EVALUATIONS", requires = "eval_every")]
    pub(super) patience: Option<NonZeroU64>,
    /// File that the state of the training is kept in; the same command again goes on from it, exactly. Removed once the adapter is written
    #[arg(long, value_name = "FILE")]
    pub(super) checkpoint: Option<PathBuf>,
    /// Write the checkpoint every so many steps
    #[arg(
        long,
        value_name = "STEPS",
        default_value = "50",
        requires = "checkpoint"
    )]
    pub(super) checkpoint_every: NonZeroU64,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The hyper-parameters of a training.
#[derive(Debug, Args)]
pub(super) struct RecipeArguments {
    /// Optimizer steps [default: three times through the data]
    #[arg(long)]
    pub(super) steps: Option<u64>,
    /// Peak learning rate
    #[arg(long, default_value_t = 2e-4)]
    pub(super) learning_rate: f64,
    /// Course of the learning rate after the warm-up: constant, linear or cosine
    #[arg(long, default_value = "linear")]
    pub(super) schedule: Schedule,
    /// Steps of linear warm-up
    #[arg(long, default_value_t = 0)]
    pub(super) warmup_steps: u64,
    /// Examples in one forward and backward pass
    #[arg(long, default_value_t = 4)]
    pub(super) batch_examples: usize,
    /// Passes in one optimizer step
    #[arg(long, default_value_t = 1)]
    pub(super) accumulation: usize,
    /// Longest example in tokens; longer ones are cut
    #[arg(long, default_value_t = 512)]
    pub(super) max_tokens: usize,
    /// Largest norm of the gradient
    #[arg(long, default_value_t = 1.0)]
    pub(super) clip_norm: f64,
    /// Decoupled weight decay
    #[arg(long, default_value_t = 0.0)]
    pub(super) weight_decay: f64,
    /// Seed of everything random: fresh factors, data order, dropout
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Keep less for the backward pass: none, or block for less memory and a third more time; the result is the same
    #[arg(long, default_value = "none", value_name = "KIND")]
    pub(super) activation_checkpointing: Checkpointing,
}

/// Measures a model on held-out text: mean loss and perplexity over the response tokens
#[derive(Debug, Args)]
pub(super) struct EvaluateArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// Adapter on top of the base (PEFT format)
    #[arg(long, value_name = "DIR")]
    pub(super) adapter: Option<PathBuf>,
    /// Held-out text: one JSON record a line, or a .txt file with a blank line between passages
    #[arg(long, value_name = "FILE")]
    pub(super) data: PathBuf,
    /// Longest example in tokens; longer ones are cut
    #[arg(long, default_value_t = 512)]
    pub(super) max_tokens: usize,
    /// Print the result as one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Lets a model answer a prompt
///
/// The prompt is put through the model's chat template, if it has one, as the user's turn; --raw continues it as plain text.
#[derive(Debug, Args)]
pub(super) struct GenerateArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// Adapter on top of the base (PEFT format)
    #[arg(long, value_name = "DIR")]
    pub(super) adapter: Option<PathBuf>,
    /// What to answer
    #[arg(long, value_name = "TEXT")]
    pub(super) prompt: String,
    /// Continue the prompt as it stands, without a chat template
    #[arg(long)]
    pub(super) raw: bool,
    /// Tokens to generate at most
    #[arg(long, default_value_t = 128)]
    pub(super) max_new_tokens: usize,
    /// Randomness: 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    pub(super) temperature: f64,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    pub(super) top_p: f64,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

/// Computes the anchor that keeps a model from forgetting
///
/// The factored Fisher information of the base model on general, public text: how much each weight matters to what the base already
/// knows. The server's run plan names the file's SHA-256.
#[derive(Debug, Args)]
pub(super) struct FisherArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// General text: one JSON record a line, or a .txt file with a blank line between passages
    #[arg(long, value_name = "FILE")]
    pub(super) data: PathBuf,
    /// File that the anchor is written to (safetensors)
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

/// Makes and inspects adapters
#[derive(Debug, Subcommand)]
pub(super) enum AdapterCommand {
    New(NewArguments),
    Show(ShowArguments),
}

/// Makes the fresh adapter that a run starts from
///
/// B is zero, so the model with it is still the base. The folder is what foedus-server's key `start` names; its layout, rank and scale
/// become the run's. The weights of the model are not loaded.
#[derive(Debug, Args)]
pub(super) struct NewArguments {
    /// Base model: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "PATH")]
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) lora: LoraArguments,
    /// Seed of the factors A
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Folder to write; it may hold nothing but an earlier adapter
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
}

/// Shows what an adapter's folder holds
#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// The folder (PEFT format)
    pub(super) folder: PathBuf,
    /// Print it as one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}
