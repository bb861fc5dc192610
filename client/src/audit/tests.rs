//! The audit has power: where nothing protects the text it finds the leak, and where nothing was learned it finds none.

use finetune::{data::Record, device::DeviceChoice, lora::Projection, schedule::Schedule, tiny};

use aggregation::{
    privacy::{Accountant, SampledGaussian},
    row_space::RowSpace,
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use super::*;

fn base() -> BaseModel {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), &tiny::shape(), 11).unwrap();
    let device = finetune::device::open(DeviceChoice::Cpu).unwrap();
    BaseModel::open(folder.path(), &device).unwrap()
}

/// Little records of a ward that have nothing to do with each other.
fn text(base: &BaseModel) -> Dataset {
    let record = |number: u64| {
        let (first, second) = ((number * 7919) % 9973, (number * 104_729) % 9967);
        Record::Text(format!("bed {first} pulse {second}"))
    };
    let records = (1..=48).map(record).collect();
    Dataset::from_records(
        std::path::Path::new("ward.jsonl"),
        records,
        &base.tokenizer,
        64,
    )
    .unwrap()
}

fn settings(steps: u64, learning_rate: f64) -> AuditSettings {
    let recipe = Recipe {
        learning_rate,
        schedule: Schedule::Constant,
        total_steps: steps,
        batch_examples: 8,
        max_tokens: 64,
        dropout: 0.0,
        ..Recipe::default()
    };
    let lora = LoraConfig {
        rank: 16,
        alpha: 32.0,
        dropout: 0.0,
        target_modules: Projection::ALL.to_vec(),
        ..LoraConfig::default()
    };
    AuditSettings {
        candidates: 255,
        coins: 64,
        canaries_each: 2,
        ..AuditSettings::new(recipe, lora)
    }
}

fn audited(steps: u64, learning_rate: f64) -> Findings {
    let base = base();
    let mut go_on = |_: &StepReport| ControlFlow::Continue(());
    audit(
        &base,
        &text(&base),
        &settings(steps, learning_rate),
        &mut go_on,
    )
    .unwrap()
}

#[test]
fn audit_finds_the_leak_of_a_training_without_protection() {
    let findings = audited(400, 1e-2);
    println!("{findings:#?}");
    let bits = |insertions| {
        findings
            .exposure
            .iter()
            .find(|group| group.insertions == insertions)
            .unwrap()
            .mean_bits
    };
    assert!(
        bits(16) > bits(0) + 3.0,
        "exposure {} and {}",
        bits(16),
        bits(0)
    );
    assert!(findings.membership.best().auc > 0.8);
    assert!(findings.one_run.epsilon_lower > 0.5);
    assert!(findings.leaks().len() >= 3, "{:?}", findings.leaks());
}

#[test]
fn audit_does_not_find_the_leak_of_a_private_training() {
    let base = base();
    let noise = AuditNoise {
        clip_norm: 1.0,
        noise_multiplier: 10.0,
    };
    let settings = AuditSettings {
        privacy: Some(noise),
        ..settings(400, 1e-2)
    };
    let mut go_on = |_: &StepReport| ControlFlow::Continue(());
    let findings = audit(&base, &text(&base), &settings, &mut go_on).unwrap();
    println!("{findings:#?}");
    let bits = |insertions| {
        let mut groups = findings.exposure.iter();
        let group = groups.find(|group| group.insertions == insertions);
        group.unwrap().mean_bits
    };
    // The same training finds all of it without noise: the test above.
    for insertions in [1, 16] {
        let (found, chance) = (bits(insertions), bits(0));
        assert!(found < chance + 3.0, "exposure {found} and {chance}");
    }
    assert!(findings.membership.best().auc < 0.75);
    assert_eq!(findings.one_run.epsilon_lower, 0.0);
    // What the attack proves is less than what the accountant promises.
    let records = findings.members + findings.planted;
    let step = SampledGaussian::new(8.0 / records as f64, 10.0).unwrap();
    let claimed = Accountant::default()
        .with(step, 400)
        .cost(settings.delta)
        .epsilon;
    let lower = findings.one_run.epsilon_lower;
    assert!(lower <= claimed, "{lower} of {claimed}");
}

#[test]
fn audit_finds_nothing_where_nothing_was_learned() {
    let findings = audited(2, 1e-9);
    assert_eq!(findings.one_run.epsilon_lower, 0.0);
    let differences = findings.exposure.iter().map(|group| group.mean_bits);
    assert!(
        differences.clone().all(|bits| bits < 7.0),
        "{:?}",
        differences.collect::<Vec<_>>()
    );
    assert!(
        findings.membership.by_loss.auc < 0.7,
        "{}",
        findings.membership.by_loss.auc
    );
}

#[test]
fn token_attack_reads_the_bare_gradient_of_one_record() {
    let base = base();
    let mut settings = settings(2, 1e-3);
    // Fewer different tokens in one record than the rank has dimensions: the attack is exact, but for a last token, which
    // nothing is predicted from.
    (settings.recipe.batch_examples, settings.lora.rank) = (1, 24);
    let mut go_on = |_: &StepReport| ControlFlow::Continue(());
    let findings = audit(&base, &text(&base), &settings, &mut go_on).unwrap();
    let [gradient, one, whole] = &findings.span[..] else {
        panic!("{:?}", findings.span)
    };
    println!("{:#?}", findings.span);
    assert_eq!(gradient.target, SpanTarget::FirstGradient);
    assert!(
        gradient.precision > 0.8 && gradient.base_rate < 0.1,
        "{gradient:?}"
    );
    assert_eq!(
        (one.target, whole.target),
        (SpanTarget::FirstUpdate, SpanTarget::WholeUpdate)
    );
    assert_eq!(one.tokens, gradient.tokens);
}

#[test]
fn report_holds_every_figure_and_loads_nothing() {
    let findings = audited(2, 1e-3);
    let html = to_html(&findings);
    for needed in [
        "Privacy audit",
        "<svg",
        "16 x",
        "update of the whole training",
        "64 canaries",
    ] {
        assert!(html.contains(needed), "{needed}");
    }
    for foreign in ["http://", "https://", "<script", "url("] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

#[test]
fn equal_records_are_trained_on_together_or_held_out_together() {
    let base = base();
    let once = text(&base);
    let count = once.examples.len();
    let twice = once.with(once.examples.clone());
    let mut go_on = |_: &StepReport| ControlFlow::Continue(());
    let mut find = |text| audit(&base, text, &settings(2, 1e-3), &mut go_on).unwrap();
    let (once, twice) = (find(&once), find(&twice));
    assert_eq!((once.repeated, twice.repeated), (0, count));
    assert_eq!(twice.outsiders, once.outsiders);
    assert_eq!(twice.members, 2 * once.members);
}

#[test]
fn too_little_text_is_refused() {
    let base = base();
    let record = |number| Record::Text(format!("one and {number}"));
    // What stands twice is no more text.
    let records = (0..7).chain(0..7).map(record).collect();
    let few = Dataset::from_records(
        std::path::Path::new("few.jsonl"),
        records,
        &base.tokenizer,
        64,
    )
    .unwrap();
    let mut go_on = |_: &StepReport| ControlFlow::Continue(());
    let refused = audit(&base, &few, &settings(2, 1e-3), &mut go_on).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("7 different records are too few"),
        "{refused}"
    );
}

/// The toy of algorithms.md section 7: 2000 unit embeddings in 64 dimensions, and a gradient of `A` of rank 32.
struct Toy {
    random: ChaCha20Rng,
    embeddings: Vec<Vec<f32>>,
}

impl Toy {
    const WIDTH: usize = 64;
    const RANK: usize = 32;

    fn new(seed: u64) -> Self {
        let mut toy = Self {
            random: ChaCha20Rng::seed_from_u64(seed),
            embeddings: Vec::new(),
        };
        toy.embeddings = (0..2000)
            .map(|_| {
                let drawn = toy.normal(Self::WIDTH);
                let norm = drawn.iter().map(|value| value * value).sum::<f32>().sqrt();
                drawn.iter().map(|value| value / norm).collect()
            })
            .collect();
        toy
    }

    fn normal(&mut self, count: usize) -> Vec<f32> {
        let mut unit = || (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        // Of twelve uniform draws: near enough to a normal one.
        (0..count)
            .map(|_| ((0..12).map(|_| unit()).sum::<f64>() - 6.0) as f32)
            .collect()
    }

    /// The share of the tokens that are right among the nearest to the gradient's row space, the gradient being that of the first
    /// `tokens` embeddings with this much noise over its own size.
    fn precision(&mut self, tokens: usize, noise: f32) -> f64 {
        let mut gradient = vec![0.0_f32; Self::RANK * Self::WIDTH];
        for token in 0..tokens {
            let slope = self.normal(Self::RANK);
            for (row, slope) in gradient.chunks_exact_mut(Self::WIDTH).zip(slope) {
                for (sum, x) in row.iter_mut().zip(&self.embeddings[token]) {
                    *sum += slope * x;
                }
            }
        }
        let square: f32 = gradient.iter().map(|value| value * value).sum();
        let size = (square / gradient.len() as f32).sqrt();
        let drawn = self.normal(gradient.len());
        for (value, drawn) in gradient.iter_mut().zip(drawn) {
            *value += noise * size * drawn;
        }
        let space = RowSpace::of(&gradient, Self::WIDTH, tokens.min(Self::RANK));
        let mut near: Vec<(f64, usize)> = self
            .embeddings
            .iter()
            .enumerate()
            .map(|(token, embedding)| (space.distance(embedding), token))
            .collect();
        near.sort_by(|one, other| one.0.total_cmp(&other.0));
        let right = near[..tokens].iter().filter(|(_, token)| *token < tokens);
        right.count() as f64 / tokens as f64
    }

    /// Over four gradients.
    fn mean(tokens: usize, noise: f32) -> f64 {
        let seeds = 0..4;
        seeds
            .map(|seed| Self::new(seed).precision(tokens, noise))
            .sum::<f64>()
            / 4.0
    }
}

#[test]
fn token_attack_on_the_toy_has_the_published_precision_by_number_of_tokens() {
    // Beyond the rank the exact test fails, and ranking does not.
    for (tokens, published) in [
        (16, 1.0),
        (32, 1.0),
        (40, 0.98),
        (64, 0.73),
        (128, 0.37),
        (256, 0.30),
    ] {
        let found = Toy::mean(tokens, 0.0);
        println!("{tokens} tokens: {found:.3}, published {published}");
        assert!(
            (found - published).abs() <= 0.1,
            "{tokens}: {found} and {published}"
        );
    }
}

#[test]
fn sums_of_few_participants_still_lead_to_their_tokens_and_of_many_hardly() {
    // Sixteen tokens each; the published lifts over the base rate.
    for (participants, published) in [(2, 63.0), (4, 24.0), (8, 6.3), (16, 2.4), (32, 1.4)] {
        let tokens = 16 * participants;
        let lift = Toy::mean(tokens, 0.0) * 2000.0 / tokens as f64;
        println!("{participants} participants: {lift:.2}, published {published}");
        assert!(
            (lift / published - 1.0).abs() < 0.25,
            "{participants}: {lift} and {published}"
        );
    }
}

#[test]
fn weak_noise_on_a_gradient_does_not_hide_its_tokens() {
    for (noise, published) in [
        (0.5, 0.99),
        (1.0, 0.86),
        (2.0, 0.38),
        (3.0, 0.11),
        (5.0, 0.03),
        (10.0, 0.008),
    ] {
        let found = Toy::mean(16, noise);
        println!("noise {noise}: {found:.3}, published {published}");
        assert!(
            (found - published).abs() <= 0.1,
            "{noise}: {found} and {published}"
        );
    }
}

/// Records of sixty characters, of all that can be printed: far more tokens in a step than the adapter's rank.
fn rich_text(base: &BaseModel) -> Dataset {
    let mut random = ChaCha20Rng::seed_from_u64(5);
    let mut record = || {
        let characters = (0..60).map(|_| char::from(33 + (random.next_u64() % 94) as u8));
        Record::Text(characters.collect())
    };
    let records = (0..48).map(|_| record()).collect();
    Dataset::from_records(
        std::path::Path::new("rich.jsonl"),
        records,
        &base.tokenizer,
        64,
    )
    .unwrap()
}

#[test]
fn update_of_a_round_by_default_settings_names_its_tokens_at_most_twice_as_well_as_chance() {
    let base = base();
    let recipe = Recipe {
        // Of server.toml's defaults: twenty steps on four records, rank 16 on q and v.
        total_steps: 20,
        batch_examples: 4,
        max_tokens: 64,
        learning_rate: 2e-4,
        ..Recipe::default()
    };
    let settings = AuditSettings {
        candidates: 15,
        coins: 8,
        canaries_each: 1,
        ..AuditSettings::new(recipe, LoraConfig::default())
    };
    let mut go_on = |_: &StepReport| ControlFlow::Continue(());
    let findings = audit(&base, &rich_text(&base), &settings, &mut go_on).unwrap();
    println!("{:#?}", findings.span);
    let whole = findings
        .span
        .iter()
        .find(|span| span.target == SpanTarget::WholeUpdate);
    let whole = whole.expect("it was attacked");
    assert!(whole.tokens > 4 * settings.lora.rank, "{whole:?}");
    assert!(whole.precision <= 2.0 * whole.base_rate, "{whole:?}");
}

#[test]
fn plan_that_protects_persons_is_audited_by_record_and_the_report_says_so() {
    let base = base();
    let mut settings = settings(2, 1e-3);
    let mut go_on = |_: &StepReport| ControlFlow::Continue(());
    let by_record = audit(&base, &text(&base), &settings, &mut go_on).unwrap();
    settings.protects_groups = true;
    let by_group = audit(&base, &text(&base), &settings, &mut go_on).unwrap();
    let sentence = "protects all records of a person together";
    assert!(to_html(&by_group).contains(sentence) && !to_html(&by_record).contains(sentence));
}
