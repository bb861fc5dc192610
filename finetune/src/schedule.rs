//! The learning rate of each step: a linear warm-up, then a constant, linear or cosine course over the whole run.
//!
//! A run is all rounds together: the step counts on from round to round, so that a cosine over 3 rounds of 8 steps is
//! one cosine of 24 steps and not three of 8. This is no optimizer and holds no state: a step's rate depends on its
//! number only.
//!
//! Warm-up differs from Hugging Face's `get_linear_schedule_with_warmup` by one step: theirs gives the first step a
//! rate of zero, which throws the first batch away; here step 0 of `w` has `1/w` of the rate and step `w - 1` all of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The course of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The peak rate to the end.
    Constant,
    /// Down in a straight line; the step after the last would have rate zero.
    #[default]
    Linear,
    /// Down on half a cosine wave; the step after the last would have rate zero.
    Cosine,
}

impl Schedule {
    /// Gives the share of the peak learning rate, in `0.0..=1.0`, that step `step` of `total_steps` is taken with.
    ///
    /// # Units
    /// `step` counts optimizer steps of the whole run from 0. A step at or past `total_steps` has the share of the
    /// course's end: 1 for constant, 0 for the others.
    pub fn share(self, step: u64, warmup_steps: u64, total_steps: u64) -> f64 {
        if step < warmup_steps {
            return (step + 1) as f64 / warmup_steps as f64;
        }
        let course = total_steps.saturating_sub(warmup_steps).max(1) as f64;
        let progress = ((step - warmup_steps) as f64 / course).min(1.0);
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - progress,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "constant",
            Self::Linear => "linear",
            Self::Cosine => "cosine",
        })
    }
}

/// A schedule's name was not recognised.
#[derive(Debug, thiserror::Error)]
#[error("unknown schedule {found:?}: use constant, linear or cosine")]
pub struct UnknownSchedule {
    /// What was given.
    pub found: String,
}

impl FromStr for Schedule {
    type Err = UnknownSchedule;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "constant" => Ok(Self::Constant),
            "linear" => Ok(Self::Linear),
            "cosine" => Ok(Self::Cosine),
            _ => Err(UnknownSchedule {
                found: name.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_in_equal_steps_and_wastes_none() {
        let shares: Vec<f64> = (0..5)
            .map(|step| Schedule::Constant.share(step, 4, 20))
            .collect();
        assert_eq!(shares, [0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn linear_course_falls_to_one_step_before_zero() {
        assert_eq!(Schedule::Linear.share(2, 2, 10), 1.0);
        assert_eq!(Schedule::Linear.share(6, 2, 10), 0.5);
        assert_eq!(Schedule::Linear.share(9, 2, 10), 0.125);
        assert_eq!(Schedule::Linear.share(10, 2, 10), 0.0);
        assert_eq!(Schedule::Linear.share(1_000, 2, 10), 0.0);
    }

    #[test]
    fn cosine_course_has_its_known_numbers() {
        // Quarter, half and three quarters of the way: (1 + cos(pi/4))/2, 1/2, (1 - cos(pi/4))/2.
        let shares = [2, 4, 6].map(|step| Schedule::Cosine.share(step, 0, 8));
        for (found, expected) in
            shares
                .iter()
                .zip([0.853_553_390_593_27, 0.5, 0.146_446_609_406_73])
        {
            assert!((found - expected).abs() < 1e-12, "{found} != {expected}");
        }
    }

    #[test]
    fn warm_up_longer_than_the_run_divides_by_nothing() {
        assert_eq!(Schedule::Cosine.share(3, 8, 4), 0.5);
        assert_eq!(Schedule::Cosine.share(8, 8, 4), 1.0);
    }

    #[test]
    fn names_round_trip_and_strangers_are_named() {
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
        }
        let refused = "step".parse::<Schedule>().unwrap_err().to_string();
        assert!(refused.contains("\"step\""), "{refused}");
    }
}
