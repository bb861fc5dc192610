//! The audit has power: where nothing protects the text it finds the leak, and where nothing was learned it finds none.

use finetune::{data::Record, device::DeviceChoice, lora::Projection, schedule::Schedule, tiny};

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
        text(&base),
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
    let findings = audit(&base, text(&base), &settings, &mut go_on).unwrap();
    println!("{findings:#?}");
    let bits = |insertions| {
        let mut groups = findings.exposure.iter();
        let group = groups.find(|group| group.insertions == insertions);
        group.unwrap().mean_bits
    };
    // The same training finds all of it without noise: the test above.
    assert!(
        bits(1) < bits(0) + 3.0,
        "exposure {} and {}",
        bits(1),
        bits(0)
    );
    assert!(findings.membership.best().auc < 0.75);
    assert!(findings.one_run.epsilon_lower < 1.0);
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
    let findings = audit(&base, text(&base), &settings, &mut go_on).unwrap();
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
fn too_little_text_is_refused() {
    let base = base();
    let records = vec![Record::Text("one".to_owned()); 7];
    let few = Dataset::from_records(
        std::path::Path::new("few.jsonl"),
        records,
        &base.tokenizer,
        64,
    )
    .unwrap();
    let mut go_on = |_: &StepReport| ControlFlow::Continue(());
    let refused = audit(&base, few, &settings(2, 1e-3), &mut go_on).unwrap_err();
    assert!(
        refused.to_string().contains("7 records are too few"),
        "{refused}"
    );
}
