//! Why something is against the policy: every line that says so, and what of it the server may hear.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use protocol::Text;

/// What is found against one rule, before the file is named.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) line: usize,
    pub(super) key: &'static str,
    pub(super) what: String,
    /// Whether waiting helps.
    pub(super) temporary: bool,
}

/// One line of the policy that is broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyViolation {
    /// The policy file.
    pub path: PathBuf,
    /// The line of the rule, from 1.
    pub line: usize,
    /// The rule's key with its section.
    pub key: &'static str,
    /// What the rule is and what was asked.
    pub what: String,
    /// Whether the same may be allowed later without anybody changing anything.
    pub is_temporary: bool,
}

impl fmt::Display for PolicyViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            key,
            what,
            ..
        } = self;
        write!(f, "{}:{line}: {key} {what}", path.display())
    }
}

/// Something is outside the site's policy; never without a violation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    violations: Vec<PolicyViolation>,
    tell_server: bool,
}

impl Refusal {
    pub(super) fn new(path: &Path, tell_server: bool, found: Vec<Found>) -> Self {
        let violation = |Found {
                             line,
                             key,
                             what,
                             temporary,
                         }: Found| PolicyViolation {
            path: path.to_owned(),
            line,
            key,
            what,
            is_temporary: temporary,
        };
        Self {
            violations: found.into_iter().map(violation).collect(),
            tell_server,
        }
    }

    /// Every line that is broken, in the order of the file's sections.
    pub fn violations(&self) -> &[PolicyViolation] {
        &self.violations
    }

    /// Every violation as a sentence with its file and line.
    pub fn sentences(&self) -> Vec<String> {
        self.violations.iter().map(ToString::to_string).collect()
    }

    /// Whether the same may be allowed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        self.violations
            .iter()
            .all(|violation| violation.is_temporary)
    }

    /// The reason that the server may know: that there is one, and the keys if the policy says so. Never a value.
    pub fn for_server(&self) -> Text {
        let refused = "this site's policy does not allow it";
        if !self.tell_server {
            return Text::new(refused);
        }
        let keys: Vec<_> = self
            .violations
            .iter()
            .map(|violation| violation.key)
            .collect();
        Text::new(&format!("{refused}: {}", keys.join(", ")))
    }
}

impl fmt::Display for Refusal {
    /// One violation stands in the sentence; more stand on lines of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            let before = if self.violations.len() == 1 {
                ""
            } else {
                "\n  "
            };
            write!(f, "{before}{violation}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
