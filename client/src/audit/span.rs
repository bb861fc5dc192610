//! The token attack on the span of gradients (DAGER, Petrov et al. 2024, arXiv 2405.15586), as it applies to LoRA.
//!
//! Of a linear layer with input rows `x_t`, the gradient of `A` is a sum over tokens of (something) times `x_t`, and that of
//! `B` a sum of (something) times `A x_t`. So their rows lie in the span of the inputs, and in the first layer an input says
//! which token it is. The attack ranks the whole vocabulary by distance to that span. It is exact while a batch has fewer
//! different tokens than the rank; what an optimizer makes of the gradient, and many steps, blur it. So it is tried on the
//! bare gradient of the first step, to show what the attack can do, and on what a server really sees.

use std::{collections::BTreeSet, sync::Arc};

use aggregation::{Adapter, row_space::RowSpace};
use finetune::{base::BaseModel, lora::LoraFactors, model::PassOptions};
use serde::Serialize;

use super::{AuditError, Course};

/// Tokens whose inputs are computed at a time.
const CHUNK: usize = 4096;

/// How well the tokens of the text are found in something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    /// In what.
    pub target: SpanTarget,
    /// The module and factor in which most was found.
    pub place: String,
    /// Different tokens in the text behind it.
    pub tokens: usize,
    /// Share of them among as many that the attack names.
    pub precision: f64,
    /// What naming tokens at random would reach.
    pub base_rate: f64,
}

/// What is attacked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanTarget {
    /// The gradient of the first step, which no server of ours is sent.
    FirstGradient,
    /// The adapter after one step, as an update of a single step would be.
    FirstUpdate,
    /// The update of the whole training.
    WholeUpdate,
}

impl SpanTarget {
    /// Whether a participant sends it.
    pub fn is_sent(self) -> bool {
        self != Self::FirstGradient
    }

    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Self::FirstGradient => "gradient of the first step (never sent)",
            Self::FirstUpdate => "update of one step",
            Self::WholeUpdate => "update of the whole training",
        }
    }
}

pub(super) fn attack(base: &BaseModel, course: &Course) -> Result<Vec<Span>, AuditError> {
    let first = tokens(course, &course.first_batch);
    let all = tokens(
        course,
        &(0..course.dataset.examples.len()).collect::<Vec<_>>(),
    );
    let gradient = gradient(base, course)?;
    let (one, whole) = (
        course.first.difference(&course.start)?,
        course.last.difference(&course.start)?,
    );
    let targets = [
        (SpanTarget::FirstGradient, &gradient, &first),
        (SpanTarget::FirstUpdate, &one, &first),
        (SpanTarget::WholeUpdate, &whole, &all),
    ];
    targets
        .into_iter()
        .filter_map(|(target, change, tokens)| {
            best(base, course, target, change, tokens).transpose()
        })
        .collect()
}

fn tokens(course: &Course, examples: &[usize]) -> BTreeSet<u32> {
    examples
        .iter()
        .flat_map(|&index| course.dataset.examples[index].tokens.iter().copied())
        .collect()
}

/// The gradient that the first step was taken with, without dropout.
fn gradient(base: &BaseModel, course: &Course) -> Result<Adapter, AuditError> {
    if course.first_batch.is_empty() {
        // A private step may have drawn nobody.
        return Ok(Adapter::zeros(Arc::clone(course.start.layout())));
    }
    let factors = LoraFactors::upload(&course.start, base.llama.device())?;
    let batch = course.dataset.batch(&course.first_batch);
    let (_, gradient) = base
        .llama
        .loss_and_gradient(&batch, &factors, PassOptions::default())?;
    Ok(gradient)
}

/// Attacks both factors of every adapted projection that sees the first layer's input; gives the best.
fn best(
    base: &BaseModel,
    course: &Course,
    target: SpanTarget,
    change: &Adapter,
    tokens: &BTreeSet<u32>,
) -> Result<Option<Span>, AuditError> {
    if tokens.is_empty() {
        return Ok(None);
    }
    let layout = change.layout();
    let mut found: Option<Span> = None;
    for (module, shape) in layout.modules().iter().enumerate() {
        let sees_input = ["q_proj", "k_proj", "v_proj"]
            .iter()
            .any(|name| shape.name.ends_with(name));
        if !shape.name.contains("layers.0.") || !sees_input {
            continue;
        }
        let (rank, width) = (layout.rank(), shape.in_features);
        let a = RowSpace::of(change.a(module), width, tokens.len().min(rank));
        // Of B's rows, which live in `rank` dimensions, at most one fewer direction tells anything apart.
        let b = RowSpace::of(change.b(module), rank, tokens.len().min(rank - 1));
        let start = course.start.a(module);
        for (factor, space) in [("A", a), ("B", b)] {
            if space.dimensions() == 0 {
                continue;
            }
            let through = (factor == "B").then_some(start);
            let precision = precision(base, &space, through, tokens)?;
            if found
                .as_ref()
                .is_none_or(|found| found.precision < precision)
            {
                found = Some(Span {
                    target,
                    place: format!("{factor} of {}", shape.name),
                    tokens: tokens.len(),
                    precision,
                    base_rate: tokens.len() as f64 / base.llama.config().vocab_size as f64,
                });
            }
        }
    }
    Ok(found)
}

/// The share of `tokens` among the as many that are nearest to the space; `through` is `A` where the space is of `A x`.
fn precision(
    base: &BaseModel,
    space: &RowSpace,
    through: Option<&[f32]>,
    tokens: &BTreeSet<u32>,
) -> Result<f64, AuditError> {
    let config = base.llama.config();
    let (vocabulary, width) = (config.vocab_size as u32, config.hidden_size);
    let mut distances = Vec::with_capacity(config.vocab_size);
    let all: Vec<u32> = (0..vocabulary).collect();
    for chunk in all.chunks(CHUNK) {
        let inputs = base.llama.first_inputs(chunk)?;
        for (&token, input) in chunk.iter().zip(inputs.chunks_exact(width)) {
            let distance = match through {
                None => space.distance(input),
                Some(a) => space.distance(&product(a, input)),
            };
            distances.push((distance, token));
        }
    }
    distances.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    let named = distances.iter().take(tokens.len());
    let right = named.filter(|(_, token)| tokens.contains(token)).count();
    Ok(right as f64 / tokens.len() as f64)
}

/// `A x`.
fn product(a: &[f32], x: &[f32]) -> Vec<f32> {
    a.chunks_exact(x.len())
        .map(|row| row.iter().zip(x).map(|(one, other)| one * other).sum())
        .collect()
}
