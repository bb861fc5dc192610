//! What a plan's noise must come to: for the site's records, and for the site as a whole.

use protocol::plan::RunPlan;

use super::{Rule, SitePolicy, refusal::Found, rules::lasting};

impl SitePolicy {
    /// Bounds on what training costs the records; a plan without differential privacy breaks every one.
    pub(super) fn noise(&self, plan: &RunPlan) -> Vec<Found> {
        let Some(rules) = &self.privacy else {
            return Vec::new();
        };
        let privacy = plan.privacy.as_ref();
        let epsilon = privacy.map(|asked| asked.epsilon_max);
        let delta = privacy.map(|asked| asked.delta);
        let without = "trains without differential privacy";
        let bounds = [
            ("privacy.epsilon_run_max", &rules.epsilon_run_max, epsilon),
            ("privacy.delta_run_max", &rules.delta_run_max, delta),
            (
                "privacy.epsilon_lifetime_max",
                &rules.epsilon_lifetime_max,
                epsilon,
            ),
            (
                "privacy.delta_lifetime_max",
                &rules.delta_lifetime_max,
                delta,
            ),
        ];
        let found = bounds.map(|(key, rule, asked)| beyond(key, rule, asked, without));
        found.into_iter().flatten().collect()
    }

    /// Bounds on what adapters may tell of the site having taken part; a plan without noise on sums breaks every one.
    pub(super) fn participant_noise(&self, plan: &RunPlan) -> Vec<Found> {
        let Some(rules) = &self.participant_privacy else {
            return Vec::new();
        };
        let privacy = plan.participant_privacy.as_ref();
        let epsilon = privacy.map(|asked| asked.epsilon_max);
        let delta = privacy.map(|asked| asked.delta);
        let without = "merges updates without noise for privacy of participants";
        let found = [
            beyond(
                "participant_privacy.epsilon_run_max",
                &rules.epsilon_run_max,
                epsilon,
                without,
            ),
            beyond(
                "participant_privacy.delta_run_max",
                &rules.delta_run_max,
                delta,
                without,
            ),
        ];
        found.into_iter().flatten().collect()
    }
}

/// What is found if a plan may cost more than the rule allows, or has no bound at all.
fn beyond(key: &'static str, rule: &Rule<f64>, asked: Option<f64>, without: &str) -> Option<Found> {
    let what = match asked {
        None => format!("is {}, and the plan {without}", rule.value),
        Some(asked) if rule.value < asked => {
            format!("is {}, and the plan may cost {asked}", rule.value)
        }
        Some(_) => return None,
    };
    Some(lasting(key, rule.line, what))
}
