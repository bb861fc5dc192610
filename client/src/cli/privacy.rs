//! `foedus-client privacy`: what private training would cost, and what it has cost.

use aggregation::privacy::{Accountant, Budget, SampledGaussian, noise_within};
use serde_json::json;

use super::{
    answer::say,
    arguments::{PrivacyPlanArguments, PrivacySpentArguments},
    failure::Failure,
};
use crate::privacy::{Entry, Ledger};

/// Says which noise reaches a target.
pub(super) fn plan(arguments: &PrivacyPlanArguments) -> Result<(), Failure> {
    let plan = Plan::of(arguments)?;
    let noise = plan.noise(arguments.batch, arguments.steps)?;
    if arguments.json {
        let line = json!({
            "noise_multiplier": noise,
            "sampling_rate": plan.rate(arguments.batch),
            "steps": arguments.steps,
            "epsilon": plan.epsilon(noise, arguments.batch, arguments.steps)?,
            "delta": arguments.delta,
        });
        say!("{line}")?;
        return Ok(());
    }
    say!("{}", plan.answer(noise))?;
    say!("\n{}", plan.choices()?)?;
    say!("\n{}", plan.course(noise)?)?;
    Ok(())
}

struct Plan<'a> {
    asked: &'a PrivacyPlanArguments,
    budget: Budget,
    spent: Accountant,
}

impl<'a> Plan<'a> {
    fn of(asked: &'a PrivacyPlanArguments) -> Result<Self, Failure> {
        let usage = |error: aggregation::privacy::PrivacyError| Failure::usage(error.to_string());
        let budget = Budget::new(asked.target_epsilon, asked.delta).map_err(usage)?;
        let counts = [asked.examples, asked.batch, asked.steps];
        if counts.contains(&0) || asked.batch > asked.examples {
            let what = "--examples, --batch and --steps must be at least 1, and --batch at most --examples";
            return Err(Failure::usage(what));
        }
        if asked.delta * asked.examples as f64 > 1.0 {
            let most = 1.0 / asked.examples as f64;
            let what = format!(
                "--delta is {}, but must be at most one over --examples: {most:.1e}",
                asked.delta
            );
            return Err(Failure::usage(what));
        }
        let spent = match &asked.ledger {
            Some(file) => Ledger::read(file)
                .map_err(anyhow::Error::from)?
                .accountant(|_| true),
            None => Ok(Accountant::default()),
        };
        Ok(Self {
            asked,
            budget,
            spent: spent.map_err(anyhow::Error::from)?,
        })
    }

    fn rate(&self, batch: u64) -> f64 {
        finetune::privacy::sampling_rate(batch as f64, self.asked.examples as usize)
    }

    /// The noise that reaches the target, rounded up to four digits behind the point.
    fn noise(&self, batch: u64, steps: u64) -> Result<f64, Failure> {
        let exact = noise_within(self.budget, self.rate(batch), steps, &self.spent);
        Ok((exact.map_err(anyhow::Error::from)? * 1e4).ceil() / 1e4)
    }

    fn epsilon(&self, noise: f64, batch: u64, steps: u64) -> Result<f64, Failure> {
        let step = SampledGaussian::new(self.rate(batch), noise).map_err(anyhow::Error::from)?;
        Ok(self
            .spent
            .with(step, steps)
            .cost(self.budget.delta())
            .epsilon)
    }

    fn answer(&self, noise: f64) -> String {
        let PrivacyPlanArguments {
            target_epsilon,
            delta,
            examples,
            batch,
            steps,
            ..
        } = self.asked;
        format!(
            "noise_multiplier {noise} keeps {steps} steps of about {batch} of {examples} records within epsilon {target_epsilon} at delta {delta}\n\n\
             in server.toml, with rounds x local_steps = {steps} and batch_examples x accumulation = {batch}:\n\n    \
             [privacy]\n    enabled = true\n    noise_multiplier = {noise}\n    epsilon_max = {target_epsilon:?}\n    delta = {delta:e}"
        )
    }

    /// The noise for other batches and other numbers of steps.
    fn choices(&self) -> Result<String, Failure> {
        let around = |value: u64, most: u64| -> Vec<u64> {
            let mut near: Vec<u64> = [value / 4, value / 2, value, value * 2, value * 4]
                .into_iter()
                .filter(|&near| near > 0 && near <= most)
                .collect();
            near.dedup();
            near
        };
        let batches = around(self.asked.batch, self.asked.examples);
        let mut text = format!(
            "noise_multiplier for epsilon {}, by steps and batch:\n",
            self.asked.target_epsilon
        );
        text += &format!("{:>10}", "steps");
        batches
            .iter()
            .for_each(|batch| text += &format!("{batch:>12}"));
        for steps in around(self.asked.steps, u64::MAX) {
            text += &format!("\n{steps:>10}");
            for &batch in &batches {
                text += &format!("{:>12.4}", self.noise(batch, steps)?);
            }
        }
        Ok(text)
    }

    /// Epsilon as the training goes on.
    fn course(&self, noise: f64) -> Result<String, Failure> {
        let mut text = format!(
            "epsilon as training goes on with noise_multiplier {noise}:\n{:>10}{:>12}",
            "steps", "epsilon"
        );
        let mut tenths: Vec<u64> = (1..=10)
            .map(|tenth| (self.asked.steps * tenth).div_ceil(10))
            .collect();
        tenths.dedup();
        for steps in tenths {
            text += &format!(
                "\n{steps:>10}{:>12.4}",
                self.epsilon(noise, self.asked.batch, steps)?
            );
        }
        Ok(text)
    }
}

/// Shows a ledger.
pub(super) fn spent(arguments: &PrivacySpentArguments) -> Result<(), Failure> {
    let budget = Budget::new(1.0, arguments.delta);
    let delta = budget
        .map_err(|error| Failure::usage(error.to_string()))?
        .delta();
    let ledger = Ledger::read(&arguments.ledger).map_err(anyhow::Error::from)?;
    if !arguments.ledger.exists() {
        say!(
            "{}: nothing was spent, there is no such ledger",
            arguments.ledger.display()
        )?;
        return Ok(());
    }
    let entries = ledger.entries();
    let (mut spent, mut costs) = (Accountant::default(), Vec::new());
    for entry in entries {
        spent.add(entry.step().map_err(anyhow::Error::from)?, entry.steps);
        costs.push(spent.cost(delta).epsilon);
    }
    let epsilon = spent.cost(delta).epsilon;
    if arguments.json {
        let head = ledger.head().to_string();
        let line = json!({ "epsilon": epsilon, "delta": delta, "entries": entries, "head": head });
        say!("{line}")?;
        return Ok(());
    }
    say!(
        "{:<20}  {:<24}{:>9}{:>9}{:>10}{:>12}{:>12}  note",
        "counted at",
        "purpose",
        "steps",
        "records",
        "rate",
        "noise",
        "epsilon"
    )?;
    for (entry, &cost) in entries.iter().zip(&costs) {
        say!("{}", row(entry, cost))?;
    }
    say!(
        "epsilon {epsilon:.4} at delta {delta} in all, protecting by {}",
        entries.first().map_or("record", |entry| &entry.unit)
    )?;
    say!("{} entries, head {}", entries.len(), ledger.head())?;
    Ok(())
}

fn row(entry: &Entry, epsilon: f64) -> String {
    let note = if entry.again {
        "done anew, counted again"
    } else {
        ""
    };
    let at = format!("{:.0}", entry.at);
    format!(
        "{at:<20}  {:<24}{:>9}{:>9}{:>10.5}{:>12.4}{epsilon:>12.4}  {note}",
        entry.purpose, entry.steps, entry.units, entry.sampling_rate, entry.noise_multiplier
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target_epsilon: f64, steps: u64) -> PrivacyPlanArguments {
        PrivacyPlanArguments {
            target_epsilon,
            delta: 1e-5,
            examples: 10_000,
            batch: 256,
            steps,
            ledger: None,
            json: false,
        }
    }

    #[test]
    fn planned_noise_is_the_published_one_and_stays_within_the_target() {
        for (epsilon, expected) in [(1.0, 3.411), (8.0, 0.852)] {
            let asked = asked(epsilon, 1000);
            let plan = Plan::of(&asked).unwrap();
            let noise = plan.noise(256, 1000).unwrap();
            assert!((noise - expected).abs() < 7e-4, "{noise}");
            assert!(plan.epsilon(noise, 256, 1000).unwrap() <= epsilon);
            assert!(
                plan.answer(noise)
                    .contains(&format!("noise_multiplier = {noise}"))
            );
            let course = plan.course(noise).unwrap();
            assert_eq!(course.lines().count(), 12, "{course}");
        }
    }

    #[test]
    fn table_of_choices_holds_the_planned_noise() {
        let asked = PrivacyPlanArguments {
            batch: 10_000,
            ..asked(8.0, 1)
        };
        let plan = Plan::of(&asked).unwrap();
        let noise = plan.noise(10_000, 1).unwrap();
        let choices = plan.choices().unwrap();
        assert!(choices.contains(&format!("{noise:>12.4}")), "{choices}");
        // Three sizes of batch up to all records, and one, two and four steps.
        assert_eq!(choices.lines().count(), 5, "{choices}");
    }

    #[test]
    fn plan_that_makes_no_sense_is_a_usage_error() {
        for asked in [
            asked(0.0, 10),
            asked(1.0, 0),
            PrivacyPlanArguments {
                delta: 1e-3,
                ..asked(1.0, 10)
            },
            PrivacyPlanArguments {
                batch: 20_000,
                ..asked(1.0, 10)
            },
        ] {
            assert_eq!(Plan::of(&asked).err().unwrap().code(), 64);
        }
    }
}
