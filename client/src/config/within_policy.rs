//! The configuration beside the site's policy: nothing here goes beyond it.

use std::path::Path;

use super::{Config, ConfigError};
use crate::{
    policy::SitePolicy,
    privacy::{BudgetError, PrivacySettings, ledger_beside},
};

impl Config {
    /// Reads the site's policy, if there is one, and checks that nothing here goes beyond it.
    ///
    /// # Errors
    /// [`ConfigError`] with the policy's line and column, or with the key that contradicts it.
    pub fn site_policy(&self, path: &Path) -> Result<Option<SitePolicy>, ConfigError> {
        let Some(file) = &self.policy else {
            return Ok(None);
        };
        let policy = SitePolicy::read(file)?;
        let (allowed, line) = policy.shares_train_loss();
        if self.share.train_loss && !allowed {
            return Err(ConfigError::Value {
                path: path.to_owned(),
                key: "share.train_loss",
                found: "true".to_owned(),
                rule: format!(
                    "{}:{line} does not list \"train_loss\" in egress.metrics",
                    file.display()
                ),
            });
        }
        self.check_budget(&policy, path)?;
        self.check_groups(&policy, path)?;
        Ok(Some(policy))
    }

    /// Gives what private training may cost, and the ledger that counts it: the policy's, or the one named here, or the one that the
    /// contents of the data lead to.
    ///
    /// # Errors
    /// [`BudgetError`] if the ledgers beside the data cannot be read or contradict each other.
    pub fn private_settings(
        &self,
        policy: Option<&SitePolicy>,
    ) -> Result<PrivacySettings, BudgetError> {
        let ledger = match policy.and_then(SitePolicy::privacy_ledger) {
            Some(ledger) => ledger,
            None if self.privacy_ledger_named => self.privacy.ledger.clone(),
            None => ledger_beside(&self.data)?,
        };
        Ok(PrivacySettings {
            ledger,
            ..self.privacy.clone()
        })
    }

    /// Checks that the site's own privacy budget, which counts over all runs, is within the policy's bounds on its lifetime.
    fn check_budget(&self, policy: &SitePolicy, path: &Path) -> Result<(), ConfigError> {
        let Some([epsilon, delta]) = policy.lifetime() else {
            return Ok(());
        };
        let budget = self.privacy.budget;
        for (key, found, (limit, line)) in [
            ("privacy.epsilon_max", budget.epsilon(), epsilon),
            ("privacy.delta", budget.delta(), delta),
        ] {
            if limit < found {
                return Err(ConfigError::Value {
                    path: path.to_owned(),
                    key,
                    found: found.to_string(),
                    rule: format!(
                        "{}:{line} allows {limit} over the lifetime of the data",
                        policy.path().display()
                    ),
                });
            }
        }
        Ok(())
    }

    /// Checks that a site whose policy wants persons protected says which records are one person's.
    fn check_groups(&self, policy: &SitePolicy, path: &Path) -> Result<(), ConfigError> {
        let (Some(line), None) = (policy.wants_groups(), &self.privacy.group_by) else {
            return Ok(());
        };
        Err(ConfigError::Value {
            path: path.to_owned(),
            key: "privacy.group_by",
            found: "\"\"".to_owned(),
            rule: format!(
                "{}:{line} wants all records of a person protected together: name the field by which they belong together",
                policy.path().display()
            ),
        })
    }
}
