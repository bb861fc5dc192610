//! What a plan's noise must come to: for the site's records, and for the site as a whole.

use protocol::plan::{PrivacyUnit, RunPlan};

use super::{Rule, SitePolicy, refusal::Found, rules::lasting};

/// A rule's key, the rule, and what the plan may cost; nothing is its bound without noise.
type Bound<'a> = (&'static str, &'a Rule<f64>, Option<f64>);

impl SitePolicy {
    /// Bounds on what training costs the records; a plan without differential privacy breaks every one.
    pub(super) fn noise(&self, plan: &RunPlan) -> Vec<Found> {
        let Some(rules) = &self.privacy else {
            return Vec::new();
        };
        let epsilon = plan.privacy.as_ref().map(|asked| asked.epsilon_max);
        let delta = plan.privacy.as_ref().map(|asked| asked.delta);
        let (of_run, of_life) = (&rules.epsilon_run_max, &rules.epsilon_lifetime_max);
        let mut found = beyond(
            [
                ("privacy.epsilon_run_max", of_run, epsilon),
                ("privacy.delta_run_max", &rules.delta_run_max, delta),
                ("privacy.epsilon_lifetime_max", of_life, epsilon),
                (
                    "privacy.delta_lifetime_max",
                    &rules.delta_lifetime_max,
                    delta,
                ),
            ],
            WITHOUT_PRIVACY,
        );
        let unit = rules.unit.as_ref();
        found.extend(unit.and_then(|rule| other_unit(rule, plan)));
        found
    }

    /// Bounds on what adapters may tell of the site having taken part; a plan without noise on sums breaks every one.
    pub(super) fn participant_noise(&self, plan: &RunPlan) -> Vec<Found> {
        let Some(rules) = &self.participant_privacy else {
            return Vec::new();
        };
        let asked = plan.participant_privacy.as_ref();
        let epsilon = asked.map(|asked| asked.epsilon_max);
        let delta = asked.map(|asked| asked.delta);
        beyond(
            [
                (
                    "participant_privacy.epsilon_run_max",
                    &rules.epsilon_run_max,
                    epsilon,
                ),
                (
                    "participant_privacy.delta_run_max",
                    &rules.delta_run_max,
                    delta,
                ),
            ],
            "merges updates without noise for privacy of participants",
        )
    }
}

const WITHOUT_PRIVACY: &str = "trains without differential privacy";

/// What is found if the plan protects something else than the policy wants protected.
fn other_unit(rule: &Rule<PrivacyUnit>, plan: &RunPlan) -> Option<Found> {
    let asked = plan.privacy.as_ref().map(|asked| asked.unit);
    if asked == Some(rule.value) {
        return None;
    }
    let wanted = match rule.value {
        PrivacyUnit::Record => "record",
        PrivacyUnit::Group => "group",
    };
    let protects = match asked {
        Some(PrivacyUnit::Record) => "protects each record alone, and not a person with several",
        Some(PrivacyUnit::Group) => "protects all records of a person together",
        None => WITHOUT_PRIVACY,
    };
    let what = format!("is {wanted:?}, and the plan {protects}");
    Some(lasting("privacy.unit", rule.line, what))
}

/// What is found of bounds that a plan may exceed, or does not have at all.
fn beyond<const N: usize>(bounds: [Bound<'_>; N], without: &str) -> Vec<Found> {
    let found = bounds.into_iter().filter_map(|(key, rule, asked)| {
        let what = match asked {
            None => format!("is {}, and the plan {without}", rule.value),
            Some(asked) if rule.value < asked => {
                format!("is {}, and the plan may cost {asked}", rule.value)
            }
            Some(_) => return None,
        };
        Some(lasting(key, rule.line, what))
    });
    found.collect()
}
