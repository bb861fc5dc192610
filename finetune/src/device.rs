//! Where the engine computes: the CPU, or one CUDA device.
//!
//! The device is always chosen by name. `burn`'s own default device takes CUDA whenever the feature is compiled in and
//! falls back to nothing; opening it without a driver panics at the first operation. Here CUDA is enumerated first.

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    str::FromStr,
};

pub use burn::tensor::Device;

/// What a person asks for: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number, from 0.
    Cuda(usize),
}

/// A device that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The name is none of ours.
    #[error("{found:?} names no device: write auto, cpu, cuda or cuda:N")]
    UnknownName {
        /// What was written.
        found: String,
    },
    /// The program was built without CUDA.
    #[error("this program was built without CUDA: choose cpu, or build with --features cuda")]
    WithoutCuda,
    /// No driver, or a driver that shows no device.
    #[error("no CUDA device can be opened: look whether nvidia-smi works here, or choose cpu")]
    NoCudaDevice,
    /// The number is too large.
    #[error("there is no CUDA device {asked}: this machine shows {found}, numbered from 0")]
    NoSuchCudaDevice {
        /// The number asked for.
        asked: usize,
        /// How many devices there are.
        found: usize,
    },
}

/// A device that gave up in the middle of its work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceFailure {
    /// There is no memory left.
    #[error(
        "the device has no memory left: set activation_checkpointing = \"block\", train fewer batch_examples or shorter \
         max_tokens, or keep the base in base_precision = \"int8\" or \"nf4\" ({detail})"
    )]
    OutOfMemory {
        /// What the driver said.
        detail: String,
    },
    /// Anything else.
    #[error("the device failed: {detail}")]
    Other {
        /// What the driver said.
        detail: String,
    },
}

/// Ends the work on a device, up to [`guarded`].
///
/// Every operation between the two would otherwise return a result that only the outermost can do something about.
pub(crate) fn fail(failure: &dyn fmt::Display) -> ! {
    let said = failure.to_string();
    // The driver's message goes on with a backtrace of the library.
    let detail = said.split("\nBacktrace").next().unwrap_or(&said);
    let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
    let lower = detail.to_lowercase();
    let memory = lower.contains("out of memory") || lower.contains("out-of-memory");
    let failure = if memory {
        DeviceFailure::OutOfMemory { detail }
    } else {
        DeviceFailure::Other { detail }
    };
    // Not a panic: nothing is printed, and no hook runs.
    panic::resume_unwind(Box::new(failure))
}

/// Does work on a device and gives its failure as an error.
///
/// # Errors
/// [`DeviceFailure`] if a [`fail`] ended the work.
///
/// # Panics
/// With whatever else the work panicked with.
pub(crate) fn guarded<R>(work: impl FnOnce() -> R) -> Result<R, DeviceFailure> {
    // What the work borrows is only read after a success: tensors and collected gradients are dropped with it.
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        match payload.downcast::<DeviceFailure>() {
            Ok(failure) => *failure,
            Err(other) => panic::resume_unwind(other),
        }
    })
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| DeviceError::UnknownName {
                    found: text.to_owned(),
                }),
        }
    }
}

/// Opens the chosen device.
///
/// # Errors
/// [`DeviceError`] if CUDA was asked for and cannot be had; `auto` and `cpu` always open.
pub fn open(choice: DeviceChoice) -> Result<Device, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::flex()),
        DeviceChoice::Cuda(index) => open_cuda(index),
        DeviceChoice::Auto => Ok(open_cuda(0).unwrap_or_else(|_| Device::flex())),
    }
}

/// Gives the number of threads that host kernels use; the environment variable `RAYON_NUM_THREADS` sets it.
pub fn cpu_threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Device, DeviceError> {
    use burn::tensor::DeviceType;

    keep_tuning();
    // Enumeration opens the driver and is empty without one; `Device::cuda` would panic later instead.
    let devices = Device::enumerate(DeviceType::Cuda).into_vec();
    let found = devices.len();
    if found == 0 {
        return Err(DeviceError::NoCudaDevice);
    }
    devices
        .into_iter()
        .nth(index)
        .ok_or(DeviceError::NoSuchCudaDevice {
            asked: index,
            found,
        })
}

/// Keeps what the device's kernels were tuned to in the user's cache folder, whatever folder the program is started in; a
/// `cubecl.toml` that says otherwise is followed.
#[cfg(feature = "cuda")]
fn keep_tuning() {
    use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};
    let mut config = CubeClRuntimeConfig::from_current_dir();
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global;
    }
    // Already set by an earlier call of the same program, to the same.
    let _ = CubeClRuntimeConfig::try_set(config);
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_index: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::WithoutCuda)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        let refused = "gpu".parse::<DeviceChoice>().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "\"gpu\" names no device: write auto, cpu, cuda or cuda:N"
        );
    }

    #[test]
    fn a_device_without_memory_is_a_sentence_that_names_the_settings() {
        let said = "An error happened during execution\nCaused by:\n  An out-of-memory error happened during launch\nBacktrace\n 0: x";
        let failure = guarded(|| fail(&said)).unwrap_err();
        let sentence = failure.to_string();
        for setting in [
            "activation_checkpointing",
            "batch_examples",
            "max_tokens",
            "base_precision",
        ] {
            assert!(sentence.contains(setting), "{sentence}");
        }
        assert!(sentence.contains("during launch") && !sentence.contains("Backtrace"));
        let other = guarded(|| fail(&"an illegal address")).unwrap_err();
        assert_eq!(other.to_string(), "the device failed: an illegal address");
        assert_eq!(guarded(|| 5), Ok(5));
    }

    #[test]
    #[should_panic(expected = "a bug of ours")]
    fn other_panics_pass_through() {
        let _ = guarded(|| panic!("a bug of ours"));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn cuda_without_the_feature_is_a_sentence() {
        let refused = open(DeviceChoice::Cuda(0)).unwrap_err();
        assert!(refused.to_string().contains("built without CUDA"));
        open(DeviceChoice::Auto).unwrap();
    }
}
