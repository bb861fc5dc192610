//! `foedus-client bench`: the speed and the memory of training steps, and the rate of products that they are a share of.
//!
//! The trainer is the real one, so what is timed is what a round does: upload of the factors, forward, backward, AdamW. Two
//! steps warm up and are not counted.

use std::{io::BufRead as _, ops::ControlFlow, path::Path, sync::Arc, time::Instant};

use aggregation::Adapter;
use anyhow::{Context as _, bail};
use finetune::{
    config::LlamaConfig,
    data::{Dataset, Example},
    device,
    lora::LoraConfig,
    model::Llama,
    privacy::{DpSgd, NoiseSource, Units},
    product_rate,
    random_weights::RandomWeights,
    recipe::Recipe,
    train::{StepReport, Trainer},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    answer::say,
    arguments::{BenchProductsArguments, BenchTrainArguments, Shape, Targets},
    failure::Failure,
    open,
    progress::Progress,
};

/// Steps that are not counted: the first ones allocate, and on CUDA compile and tune kernels.
const WARM_UP: usize = 2;

/// Measures products of matrices and prints their rate.
pub(super) fn products(arguments: &BenchProductsArguments) -> Result<(), Failure> {
    if arguments.size == 0 {
        return Err(Failure::usage("--size must be at least 1"));
    }
    let device = device::open(arguments.device).map_err(anyhow::Error::from)?;
    let rate = product_rate::measure(&device, arguments.size);
    if arguments.json {
        let line = json!({
            "device": arguments.device.to_string(), "size": arguments.size,
            "operations_per_second": rate,
        });
        say!("{line}")?;
    } else {
        let (size, rate) = (arguments.size, rate / 1e9);
        say!("products of {size} x {size}: {rate:.1} GFLOP/s")?;
    }
    Ok(())
}

/// Measures and prints the result.
pub(super) fn train(arguments: &BenchTrainArguments) -> Result<(), Failure> {
    let llama = llama(arguments)?;
    let config = llama.config().clone();
    let dataset = Arc::new(dataset(arguments, &config)?);
    let lora = LoraConfig {
        rank: arguments.rank,
        alpha: 2.0 * arguments.rank as f64,
        dropout: arguments.dropout,
        rslora: false,
        target_modules: arguments.targets.0.clone(),
    };
    let layout = lora.layout(&config).map_err(anyhow::Error::from)?;
    let start = Adapter::initial(Arc::new(layout), 1);
    let resident_after_loading = memory_mb("VmRSS");
    let steps = measure(arguments, llama, dataset, &start)?;
    let figures = Figures::of(&steps);
    if arguments.json {
        let line = json!({
            "program": "foedus", "model": name(arguments), "rank": arguments.rank,
            "targets": arguments.targets.to_string(), "dropout": arguments.dropout, "dp": arguments.dp,
            "device": arguments.device.to_string(), "threads": device::cpu_threads(),
            "batch": arguments.batch, "seq": arguments.seq, "steps": arguments.steps,
            "base_precision": arguments.base_precision.to_string(),
            "checkpointing": arguments.activation_checkpointing.to_string(),
            "trained_values": start.values().len(),
            "seconds_median": figures.median, "seconds_least": figures.least,
            "tokens_per_second": figures.tokens_per_second,
            "target_tokens_per_second": figures.targets_per_second,
            "memory_mb_loaded": resident_after_loading, "memory_mb_peak": memory_mb("VmHWM"),
            "losses": steps.iter().map(|step| step.loss).collect::<Vec<_>>(),
            "learning_rates": steps.iter().map(|step| step.learning_rate).collect::<Vec<_>>(),
            "lines": steps.iter().map(|step| &step.lines).collect::<Vec<_>>(),
        });
        say!("{line}")?;
        return Ok(());
    }
    say!(
        "{} rank {} on {}: {:.3} s a step (least {:.3}), {:.0} tokens/s, {:.0} of them with a target; {} MB at the peak, {} MB after loading",
        name(arguments),
        arguments.rank,
        arguments.targets,
        figures.median,
        figures.least,
        figures.tokens_per_second,
        figures.targets_per_second,
        memory_mb("VmHWM"),
        resident_after_loading,
    )?;
    Ok(())
}

/// The file of the base, or the shape of its random weights.
fn name(arguments: &BenchTrainArguments) -> String {
    match &arguments.model {
        Some(model) => model.display().to_string(),
        None => arguments.shape.name(),
    }
}

/// The base on its device: that of the file, or random weights.
fn llama(arguments: &BenchTrainArguments) -> Result<Arc<Llama>, Failure> {
    let precision = arguments.base_precision;
    if let Some(model) = &arguments.model {
        let base = open::base_on(model, arguments.device, precision)?;
        return Ok(Arc::clone(&base.llama));
    }
    let device = device::open(arguments.device).map_err(anyhow::Error::from)?;
    let weights = RandomWeights(shape(arguments.shape));
    let llama = Llama::from_weights(&weights, &device, precision);
    Ok(Arc::new(llama.map_err(anyhow::Error::from)?))
}

fn shape(shape: Shape) -> LlamaConfig {
    match shape {
        Shape::Tiny => finetune::tiny::shape(),
        Shape::Smollm2_135m => finetune::tiny::smollm2_135m(),
        Shape::Llama3_2_1b => finetune::tiny::llama_3_2_1b(),
        Shape::Llama3_1_8b => finetune::tiny::llama_3_1_8b(),
    }
}

/// One step as measured.
#[derive(Debug)]
struct Step {
    seconds: f64,
    tokens: u64,
    targets: u64,
    loss: f64,
    learning_rate: f64,
    lines: Vec<usize>,
}

fn measure(
    arguments: &BenchTrainArguments,
    llama: Arc<Llama>,
    dataset: Arc<Dataset>,
    start: &Adapter,
) -> Result<Vec<Step>, Failure> {
    let total = arguments.steps + WARM_UP as u64;
    let recipe = Recipe {
        learning_rate: 1e-4,
        total_steps: total,
        batch_examples: arguments.batch,
        dropout: arguments.dropout,
        checkpointing: arguments.activation_checkpointing,
        ..Recipe::default()
    };
    let private = arguments.dp.then(|| every_example(&dataset)).transpose()?;
    let trainer = Trainer::new(llama, dataset, recipe, 1, None);
    let mut trainer = trainer.map_err(anyhow::Error::from)?;
    if let Some(private) = private {
        trainer = trainer.with_privacy(private).map_err(anyhow::Error::from)?;
    }
    let mut progress = Progress::begin("steps", total);
    let mut steps = Vec::new();
    let mut begun = Instant::now();
    let outcome = trainer.run(start, 0, total, &mut |report: &StepReport| {
        steps.push(Step {
            seconds: begun.elapsed().as_secs_f64(),
            tokens: report.rows,
            targets: report.tokens,
            loss: report.loss,
            learning_rate: report.learning_rate,
            lines: report.lines.clone(),
        });
        progress.show(report.done, report.asked, "");
        begun = Instant::now();
        ControlFlow::Continue(())
    });
    progress.end();
    outcome.map_err(anyhow::Error::from)?;
    Ok(steps)
}

/// Private steps that read every example, so that they do the work of plain steps and what privacy adds.
fn every_example(dataset: &Dataset) -> Result<DpSgd, Failure> {
    Ok(DpSgd {
        clip_norm: 1.0,
        noise_multiplier: 1.0,
        expected_units: dataset.examples.len() as f64,
        units: Units::records(dataset),
        random: NoiseSource::from_system().map_err(anyhow::Error::from)?,
    })
}

/// What the counted steps come to.
#[derive(Debug, PartialEq)]
struct Figures {
    median: f64,
    least: f64,
    /// Of all counted steps together: batches differ in length.
    tokens_per_second: f64,
    targets_per_second: f64,
}

impl Figures {
    fn of(steps: &[Step]) -> Self {
        let counted = &steps[WARM_UP.min(steps.len())..];
        let mut seconds: Vec<f64> = counted.iter().map(|step| step.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let whole: f64 = seconds.iter().sum();
        let rate = |count: fn(&Step) -> u64| counted.iter().map(count).sum::<u64>() as f64 / whole;
        Self {
            median: seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN),
            least: seconds.first().copied().unwrap_or(f64::NAN),
            tokens_per_second: rate(|step| step.tokens),
            targets_per_second: rate(|step| step.targets),
        }
    }
}

/// Random tokens of one length with every token counted, or the examples of a file.
fn dataset(arguments: &BenchTrainArguments, config: &LlamaConfig) -> Result<Dataset, Failure> {
    let examples = match &arguments.examples {
        Some(file) => read_examples(file)?,
        None => {
            let count = arguments.batch as u64;
            let vocabulary = config.vocab_size as u64;
            let token = |place: u64| (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % vocabulary;
            let example = |number: u64| {
                let first = number * arguments.seq as u64;
                let tokens = (first..first + arguments.seq as u64).map(|place| token(place) as u32);
                Example {
                    tokens: tokens.collect(),
                    response: vec![true; arguments.seq],
                    line: number as usize + 1,
                }
            };
            (0..count).map(example).collect()
        }
    };
    Ok(Dataset {
        examples,
        digest: [0; 32],
        source: arguments
            .examples
            .clone()
            .unwrap_or_else(|| "random tokens".into()),
        truncated: 0,
    })
}

/// A line of the examples' file.
#[derive(Deserialize)]
struct ExampleLine {
    tokens: Vec<u32>,
    /// The first token that counts.
    response_from: usize,
}

fn read_examples(file: &Path) -> anyhow::Result<Vec<Example>> {
    let opened = std::fs::File::open(file);
    let opened = opened.with_context(|| format!("cannot read {}", file.display()))?;
    let mut examples = Vec::new();
    for (number, line) in (1..).zip(std::io::BufReader::new(opened).lines()) {
        let unusable = || format!("{}:{number} is no example", file.display());
        let read: ExampleLine = serde_json::from_str(&line?).with_context(unusable)?;
        let tokens = read.tokens.len();
        let response = (0..tokens).map(|place| place >= read.response_from);
        examples.push(Example {
            response: response.collect(),
            tokens: read.tokens,
            line: number,
        });
    }
    if examples.is_empty() {
        bail!("{} holds no example", file.display());
    }
    Ok(examples)
}

/// A line of `/proc/self/status` in MB; zero elsewhere than on Linux.
fn memory_mb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024 / 1_000_000
}

impl std::fmt::Display for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|projection| projection.name()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_leave_out_the_warm_up() {
        let step = |seconds| Step {
            seconds,
            tokens: 100,
            targets: 10,
            loss: 1.0,
            learning_rate: 1e-4,
            lines: vec![1],
        };
        let steps = [9.0, 9.0, 2.0, 1.0, 3.0].map(step);
        let expected = Figures {
            median: 2.0,
            least: 1.0,
            tokens_per_second: 50.0,
            targets_per_second: 5.0,
        };
        assert_eq!(Figures::of(&steps), expected);
    }

    #[test]
    fn line_that_is_no_example_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "{\"tokens\": [1, 2], \"response_from\": 1}\n{}\n",
        )
        .unwrap();
        let error = read_examples(file.path()).unwrap_err().to_string();
        assert!(error.ends_with(":2 is no example"), "{error}");
    }
}
