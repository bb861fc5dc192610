//! What can go wrong when model files are opened.
//!
//! One sentence each: which file, which tensor or field, what to do. The reason is part of the sentence and not a source of
//! its own, so that a printed chain says it once. Errors of data sets are in [`crate::data`].

use std::path::PathBuf;

/// A base model that cannot be opened, with the file to blame.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The operating system refused.
    #[error("cannot {what} {}: {reason}", path.display())]
    Io {
        /// The verb: open, read, map, list.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        reason: std::io::Error,
    },
    /// The file is damaged, truncated or not of the format its name promises.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found, and where.
        what: String,
    },
    /// The file is sound, but asks for something that this engine does not do.
    #[error("{} is not supported: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it asks for, and what would work.
        what: String,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error("{} has no tensor {name}", path.display())]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The Hugging Face name.
        name: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor {name} in {} has shape {found:?}, but the configuration asks for {expected:?}", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The Hugging Face name.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that follows from the configuration.
        expected: Vec<usize>,
    },
    /// The tokenizer cannot be built.
    #[error("the tokenizer of {} cannot be used: {what}", path.display())]
    Tokenizer {
        /// The model file or folder.
        path: PathBuf,
        /// The reason.
        what: String,
    },
    /// A model could not be fetched.
    #[error("cannot fetch {name}: {what}")]
    Fetch {
        /// What was asked for.
        name: String,
        /// The reason and the way out.
        what: String,
    },
    /// The LoRA configuration makes no adapter for this model.
    #[error("the LoRA configuration does not fit {}: {reason}", path.display())]
    Layout {
        /// The model file or folder.
        path: PathBuf,
        /// What does not fit.
        reason: aggregation::AdapterError,
    },
}

impl LoadError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, reason: std::io::Error) -> Self {
        Self::Io {
            what,
            path: path.into(),
            reason,
        }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.into(),
            what: what.into(),
        }
    }

    pub(crate) fn unsupported(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Unsupported {
            path: path.into(),
            what: what.into(),
        }
    }

    pub(crate) fn tokenizer(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Tokenizer {
            path: path.into(),
            what: what.into(),
        }
    }
}
