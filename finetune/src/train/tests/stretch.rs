//! A round's steps that are broken off and gone on with by another trainer.

use super::*;

const FIRST_STEP: u64 = 3;
const STEPS: u64 = 5;

fn trainer(recipe: Recipe) -> Trainer {
    on(&fixture::texts(&base()), recipe, SEED, Some(pull(0.5)))
}

fn begun() -> Stretch {
    Stretch::begin(&fixture::adapter(&base()), FIRST_STEP, STEPS)
}

/// The state after so many steps of the round.
fn broken_off(after: u64) -> Vec<u8> {
    let (mut trainer, mut stretch) = (trainer(fixture::recipe()), begun());
    trainer
        .go_on(&mut stretch, &mut |report| {
            if report.done < after {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .unwrap();
    assert_eq!(stretch.left(), STEPS - after);
    trainer.checkpoint_in(&stretch)
}

#[test]
fn a_round_that_is_gone_on_with_after_any_step_comes_to_the_same_outcome() {
    let start = fixture::adapter(&base());
    let mut whole = trainer(fixture::recipe());
    let expected = whole.run(&start, FIRST_STEP, STEPS, &mut go_on).unwrap();
    for after in 1..STEPS {
        let state = broken_off(after);
        let (mut other, mut stretch) = (trainer(fixture::recipe()), begun());
        other.resume_in(&mut stretch, &state).unwrap();
        assert_eq!(stretch.next_step(), FIRST_STEP + after);
        other.go_on(&mut stretch, &mut go_on).unwrap();
        let found = stretch.end();
        assert_eq!(found.adapter, expected.adapter, "after {after}");
        let numbers = |of: &Trained| (of.steps, of.examples_used, of.tokens, of.mean_loss);
        assert_eq!(numbers(&found), numbers(&expected), "after {after}");
        assert_eq!(other.moments(), whole.moments(), "after {after}");
    }
}

#[test]
fn the_midst_of_another_round_or_training_is_refused_and_nothing_is_changed() {
    let state = broken_off(2);
    let faster = Recipe {
        learning_rate: 2e-2,
        ..fixture::recipe()
    };
    let start = fixture::adapter(&base());
    let later = Stretch::begin(&start, FIRST_STEP + STEPS, STEPS);
    let between_rounds = trainer(fixture::recipe()).checkpoint();
    for (recipe, mut stretch, state, says) in [
        (
            fixture::recipe(),
            later,
            &state,
            "its steps is 5 from 3, here it is 5 from 8",
        ),
        (faster, begun(), &state, "its learning_rate is 0.01"),
        (
            fixture::recipe(),
            begun(),
            &between_rounds,
            "not of the midst",
        ),
    ] {
        let mut other = trainer(recipe);
        let refused = other
            .resume_in(&mut stretch, state)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(says), "{refused}");
        assert_eq!(stretch.left(), STEPS);
        assert_eq!(other.moments().0, 0);
    }
}
