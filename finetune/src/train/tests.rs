//! The trainer on a tiny random model. Seeds are constants, so a failure repeats itself.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use aggregation::{Adapter, ewc};

use super::{fixture, *};
use crate::{
    base::BaseModel,
    data::Record,
    fisher::fisher,
    generate::{Sampling, generate},
    schedule::Schedule,
};

mod private;
mod stretch;

const SEED: u64 = 42;

fn base() -> Arc<BaseModel> {
    static BASE: OnceLock<Arc<BaseModel>> = OnceLock::new();
    Arc::clone(BASE.get_or_init(fixture::base))
}

fn on(data: &Arc<Dataset>, recipe: Recipe, seed: u64, pull: Option<AnchorPull>) -> Trainer {
    Trainer::new(
        Arc::clone(&base().llama),
        Arc::clone(data),
        recipe,
        seed,
        pull,
    )
    .unwrap()
}

/// All steps of the recipe from the fresh adapter.
fn train(data: &Arc<Dataset>, recipe: Recipe, seed: u64, pull: Option<AnchorPull>) -> Trained {
    let steps = recipe.total_steps;
    on(data, recipe, seed, pull)
        .run(&fixture::adapter(&base()), 0, steps, &mut go_on)
        .unwrap()
}

fn go_on(_: &StepReport) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn pull(lambda: f64) -> AnchorPull {
    let base = base();
    let text = fixture::texts(&base);
    let anchor = fisher(&base, &fixture::lora(), &text, 3, &mut |_| {}).unwrap();
    let layout = Arc::new(base.adapter_layout(&fixture::lora()).unwrap());
    AnchorPull {
        anchor: anchor.bind(&layout, &base.fingerprint).unwrap(),
        lambda,
    }
}

#[test]
fn one_batch_is_learned_by_heart() {
    let data = fixture::texts(&base());
    let recipe = Recipe {
        learning_rate: 2e-2,
        schedule: Schedule::Constant,
        total_steps: 120,
        batch_examples: 6,
        dropout: 0.0,
        ..fixture::recipe()
    };
    let mut losses = Vec::new();
    let start = fixture::adapter(&base());
    let steps = recipe.total_steps;
    let mut observe = |report: &StepReport| {
        losses.push(report.loss);
        ControlFlow::Continue(())
    };
    on(&data, recipe, SEED, None)
        .run(&start, 0, steps, &mut observe)
        .unwrap();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.2 * first, "from {first} only to {last}");
}

#[test]
fn trained_answer_is_generated_and_ends_with_its_turn() {
    let base = base();
    let data = fixture::question(&base);
    let recipe = Recipe {
        learning_rate: 2e-2,
        schedule: Schedule::Constant,
        total_steps: 100,
        batch_examples: 1,
        dropout: 0.0,
        ..fixture::recipe()
    };
    let trained = train(&data, recipe, SEED, None);
    let prompt = base
        .tokenizer
        .chat_prompt(&[crate::chat::Turn::user("code?")])
        .unwrap();
    let sampling = Sampling {
        max_new_tokens: 20,
        ..Sampling::default()
    };
    let mut heard = Vec::new();
    let made = generate(
        &base,
        Some(&trained.adapter),
        &prompt,
        &sampling,
        &mut |token| {
            heard.push(token);
            ControlFlow::Continue(())
        },
    );
    let made = made.unwrap();
    assert_eq!(base.tokenizer.decode(&made), "4711");
    assert_eq!(heard, made);
}

#[test]
fn same_seed_gives_the_same_bytes_and_another_seed_others() {
    let data = fixture::texts(&base());
    let bytes = |seed| {
        train(&data, fixture::recipe(), seed, None)
            .adapter
            .to_le_bytes()
    };
    assert!(bytes(SEED) == bytes(SEED));
    assert!(bytes(SEED) != bytes(SEED + 1));
}

#[test]
fn two_trainers_with_equal_data_are_equal() {
    let base = base();
    let records = |words: &[&str]| -> Vec<Record> {
        words
            .iter()
            .map(|word| Record::Text((*word).to_owned()))
            .collect()
    };
    let words = ["alpha", "beta", "gamma", "delta"];
    let ours = fixture::dataset(&base, "ours.jsonl", records(&words));
    let theirs = fixture::dataset(&base, "theirs.jsonl", records(&words));
    let bytes = |data| {
        train(data, fixture::recipe(), SEED, None)
            .adapter
            .to_le_bytes()
    };
    assert!(bytes(&ours) == bytes(&theirs));
}

#[test]
fn two_rounds_are_one_training_of_all_their_steps() {
    let data = fixture::texts(&base());
    let straight = train(&data, fixture::recipe(), SEED, None);
    let mut trainer = on(&data, fixture::recipe(), SEED, None);
    let first = trainer
        .run(&fixture::adapter(&base()), 0, 5, &mut go_on)
        .unwrap();
    let second = trainer.run(&first.adapter, 5, 5, &mut go_on).unwrap();
    assert!(second.adapter.to_le_bytes() == straight.adapter.to_le_bytes());
    assert_eq!(first.tokens + second.tokens, straight.tokens);
}

#[test]
fn token_weighs_the_same_in_every_micro_batch() {
    let data = fixture::texts(&base());
    let recipe = |batch_examples, accumulation| Recipe {
        batch_examples,
        accumulation,
        dropout: 0.0,
        ..fixture::recipe()
    };
    let whole = train(&data, recipe(6, 1), SEED, None);
    let parts = train(&data, recipe(2, 3), SEED, None);
    let apart = whole.adapter.difference(&parts.adapter).unwrap().norm();
    let moved = whole
        .adapter
        .difference(&fixture::adapter(&base()))
        .unwrap()
        .norm();
    assert!(apart < 1e-3 * moved, "{apart} of {moved}");
    assert_eq!(whole.tokens, parts.tokens);
}

#[test]
fn anchor_of_no_strength_changes_no_bit() {
    let data = fixture::texts(&base());
    let without = train(&data, fixture::recipe(), SEED, None);
    let with = train(&data, fixture::recipe(), SEED, Some(pull(0.0)));
    assert!(without.adapter.to_le_bytes() == with.adapter.to_le_bytes());
}

#[test]
fn stronger_anchor_keeps_the_model_nearer_to_its_base() {
    let data = fixture::question(&base());
    let bound = pull(1.0).anchor;
    let recipe = Recipe {
        batch_examples: 1,
        total_steps: 20,
        dropout: 0.0,
        ..fixture::recipe()
    };
    let distance = |lambda| {
        let trained = train(&data, recipe.clone(), SEED, Some(pull(lambda)));
        ewc::penalty(&trained.adapter, &bound, 1.0)
    };
    let distances = [0.0, 0.3, 3.0].map(distance);
    assert!(
        distances.is_sorted_by(|weak, strong| weak > strong),
        "{distances:?}"
    );
}

#[test]
fn clipping_makes_the_anchor_no_stronger() {
    let data = fixture::question(&base());
    let begun = train(&data, fixture::recipe(), SEED, None).adapter;
    let recipe = |clip_norm| Recipe {
        schedule: Schedule::Constant,
        warmup_steps: 0,
        total_steps: 1,
        batch_examples: 1,
        dropout: 0.0,
        clip_norm,
        ..fixture::recipe()
    };
    let step = |clip_norm, pull| {
        let mut trainer = on(&data, recipe(clip_norm), SEED, pull);
        trainer.run(&begun, 0, 1, &mut go_on).unwrap().adapter
    };
    let distance = |one: &Adapter, other: &Adapter| one.difference(other).unwrap().norm();
    let free = step(None, None);
    let pulled = step(None, Some(pull(1.0)));
    // A first step of AdamW is as long, whatever the gradient is multiplied by, but for values near its epsilon.
    let clipped = step(Some(0.1), Some(pull(1.0)));
    let (apart, pulled_by) = (distance(&clipped, &pulled), distance(&pulled, &free));
    assert!(apart < 0.1 * pulled_by, "{apart} of {pulled_by}");
}

#[test]
fn training_that_diverges_in_its_very_last_step_is_noticed() {
    let data = fixture::texts(&base());
    let recipe = Recipe {
        learning_rate: 1e300,
        warmup_steps: 0,
        ..fixture::recipe()
    };
    let mut trainer = on(&data, recipe, SEED, None);
    let error = trainer
        .run(&fixture::adapter(&base()), 0, 1, &mut go_on)
        .unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("diverged at step 0: the adapter's norm after it"),
        "{said}"
    );
}

#[test]
fn diverged_training_names_step_and_lines() {
    let data = fixture::texts(&base());
    let recipe = Recipe {
        learning_rate: 1e30,
        warmup_steps: 0,
        ..fixture::recipe()
    };
    let mut trainer = on(&data, recipe, SEED, None);
    let error = trainer
        .run(&fixture::adapter(&base()), 0, 10, &mut go_on)
        .unwrap_err();
    let TrainError::Diverged { step, lines, .. } = &error else {
        panic!("{error}")
    };
    assert!((1..4).contains(step), "{error}");
    assert!(
        lines.lines.iter().all(|line| (1..=6).contains(line)),
        "{error}"
    );
    assert!(error.to_string().contains("texts.jsonl lines "), "{error}");
}

#[test]
fn observer_may_break_off() {
    let data = fixture::texts(&base());
    let mut trainer = on(&data, fixture::recipe(), SEED, None);
    let mut stop = |report: &StepReport| {
        assert_eq!((report.asked, report.step + 1), (10, report.done));
        if report.done == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let trained = trainer
        .run(&fixture::adapter(&base()), 0, 10, &mut stop)
        .unwrap();
    assert_eq!(trained.steps, 3);
    assert!(trained.mean_loss > 0.0);
}

#[test]
fn weight_counts_each_example_once() {
    let data = fixture::texts(&base());
    let trained = |steps| {
        let mut trainer = on(&data, fixture::recipe(), SEED, None);
        trainer
            .run(&fixture::adapter(&base()), 0, steps, &mut go_on)
            .unwrap()
            .examples_used
    };
    assert_eq!(
        [trained(0), trained(1), trained(2), trained(5)],
        [0, 3, 6, 6]
    );
}

#[test]
fn adapter_of_another_layout_is_refused() {
    let base = base();
    let data = fixture::texts(&base);
    let mut trainer = on(&data, fixture::recipe(), SEED, None);
    trainer
        .run(&fixture::adapter(&base), 0, 1, &mut go_on)
        .unwrap();
    let other = crate::lora::LoraConfig {
        rank: 2,
        ..fixture::lora()
    };
    let other = Adapter::initial(Arc::new(base.adapter_layout(&other).unwrap()), 5);
    let error = trainer.run(&other, 1, 1, &mut go_on).unwrap_err();
    assert!(matches!(error, TrainError::OtherLayout), "{error}");
    let mut pulled = on(&data, fixture::recipe(), SEED, Some(pull(1.0)));
    let error = pulled.run(&other, 0, 1, &mut go_on).unwrap_err();
    assert!(matches!(error, TrainError::OtherAnchor), "{error}");
}

#[test]
fn nothing_to_train_on_is_named() {
    let empty = Dataset {
        examples: Vec::new(),
        digest: [0; 32],
        source: PathBuf::from("empty.jsonl"),
        truncated: 0,
    };
    let error = Trainer::new(
        Arc::clone(&base().llama),
        Arc::new(empty),
        fixture::recipe(),
        SEED,
        None,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "empty.jsonl holds no example to train on"
    );
}

fn course(recipe: Recipe, patience: Option<Patience>) -> Course {
    judged(
        recipe,
        patience.map(|patience| Validation {
            patience,
            held_out: [1; 32],
            every: 1,
        }),
    )
}

fn judged(recipe: Recipe, validation: Option<Validation>) -> Course {
    let base = base();
    let trainer = on(&fixture::texts(&base), recipe, SEED, Some(pull(0.5)));
    Course::new(
        trainer,
        fixture::adapter(&base),
        &base.fingerprint,
        validation,
    )
}

#[test]
fn training_resumed_after_any_step_gives_the_same_bytes() {
    let patience = Some(Patience { evaluations: 9 });
    // Losses that make the third evaluation the best: what is kept must survive, too.
    let losses = |step: u64| (step as f64 - 3.0).abs();
    let mut whole = course(fixture::recipe(), patience);
    let mut states = vec![whole.checkpoint()];
    while whole.steps_left() > 0 {
        whole.advance(1, &mut go_on).unwrap();
        whole.judge(losses(whole.step()));
        states.push(whole.checkpoint());
    }
    let last = whole.adapter().sha256();
    let kept = whole.finish().sha256();
    assert_ne!(last, kept);
    for (step, state) in states.iter().enumerate() {
        let mut again = course(fixture::recipe(), patience);
        again.resume(state).unwrap();
        assert_eq!(again.step(), step as u64);
        while again.steps_left() > 0 {
            again.advance(1, &mut go_on).unwrap();
            again.judge(losses(again.step()));
        }
        assert_eq!(again.adapter().sha256(), last, "resumed after {step}");
        assert_eq!(again.finish().sha256(), kept, "resumed after {step}");
    }
}

#[test]
fn early_stopping_ends_the_course_and_gives_the_best_adapter() {
    let mut course = course(fixture::recipe(), Some(Patience { evaluations: 2 }));
    let mut best = None;
    for loss in [3.0, 2.0, 2.5, 2.6] {
        course.advance(1, &mut go_on).unwrap();
        if course.judge(loss) == Verdict::Improved {
            best = Some(course.adapter().sha256());
        }
    }
    assert_eq!(course.steps_left(), 0);
    assert_eq!(course.step(), 4);
    assert_eq!(course.best(), Some(Best { step: 2, loss: 2.0 }));
    assert_eq!(Some(course.finish().sha256()), best);
}

#[test]
fn checkpoint_of_another_training_is_refused_and_says_what_differs() {
    let state = course(fixture::recipe(), None).checkpoint();
    let faster = Recipe {
        learning_rate: 2e-2,
        ..fixture::recipe()
    };
    let refused = course(faster, None).resume(&state).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "it belongs to another training: its learning_rate is 0.01, here it is 0.02"
    );
}

#[test]
fn checkpoint_with_early_stopping_is_refused_with_other_held_out_data_or_evaluations() {
    let first = Validation {
        patience: Patience { evaluations: 2 },
        held_out: [1; 32],
        every: 5,
    };
    let state = judged(fixture::recipe(), Some(first)).checkpoint();
    judged(fixture::recipe(), Some(first))
        .resume(&state)
        .unwrap();
    let other_text = Validation {
        held_out: [2; 32],
        ..first
    };
    for (other, what) in [
        (other_text, "its held-out data is 0101"),
        (
            Validation { every: 6, ..first },
            "its steps between evaluations is 5, here it is 6",
        ),
    ] {
        let refused = judged(fixture::recipe(), Some(other)).resume(&state);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
    }
}
