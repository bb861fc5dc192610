//! What can be wrong with a layout or with the values of an adapter.

use crate::layout::Factor;

/// A layout that cannot be, or values that are not of their layout.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AdapterError {
    /// A layout names no module.
    #[error("an adapter layout needs at least one module")]
    NoModules,
    /// A module name is empty, too long, or not made of ASCII letters, digits, `.`, `_` and `-`.
    #[error(
        "module name {name:?} is not 1 to 256 ASCII letters, digits, dots, dashes and underscores"
    )]
    ModuleName {
        /// The name as given, cut to 64 characters.
        name: String,
    },
    /// The same module appears twice.
    #[error("module {module} appears twice in the adapter layout")]
    DuplicateModule {
        /// The module.
        module: String,
    },
    /// A dimension is zero or larger than any model has.
    #[error("{what} is {found}, outside 1 to {limit}")]
    Dimension {
        /// Which dimension of what.
        what: String,
        /// The value found.
        found: usize,
        /// The largest value allowed.
        limit: usize,
    },
    /// Alpha is not a positive, finite number.
    #[error("alpha is {alpha}, not a positive finite number")]
    Alpha {
        /// The value found.
        alpha: f64,
    },
    /// The number of values does not fit the layout.
    #[error("the adapter has {found} values, its layout {expected}")]
    Length {
        /// Values found.
        found: usize,
        /// Values the layout has.
        expected: usize,
    },
    /// The number of bytes does not fit the layout.
    #[error("the adapter has {found} bytes, its layout {expected} (little-endian f32)")]
    ByteLength {
        /// Bytes found.
        found: usize,
        /// Bytes the layout has.
        expected: usize,
    },
    /// A value is NaN or infinite.
    #[error("{factor} of {module} has a value that is not finite at index {index}")]
    NotFinite {
        /// The module.
        module: String,
        /// Which of its two factors.
        factor: Factor,
        /// Index into the row-major factor.
        index: usize,
    },
    /// Two adapters that must share one layout do not.
    #[error("the two adapters have different layouts")]
    LayoutMismatch,
}
