//! Adapters as numbers: what a LoRA adapter is, how updates become the next global adapter, how an
//! anchor pulls it back, what privacy costs, and the bytes of the PEFT format.
//!
//! It has no I/O, no clock and no tensor library: bytes come in as slices or through [`encoded::ReadAt`]
//! and go out as vectors, randomness comes in as a seed. It does not know the wire protocol either;
//! there an update is an opaque blob, and [`admission::admit`] is where those bytes become something
//! to [fold](strategy::fedavg::FedAvg::fold_admitted), or to keep for a [robust rule](strategy::robust), or a refusal.
//!
//! Formulas follow Hu et al. 2021 (LoRA, arXiv 2106.09685), McMahan et al. 2017 (FedAvg, arXiv
//! 1602.05629) and Kirkpatrick et al. 2017 (EWC, arXiv 1612.00796).

pub mod adapter;
pub mod admission;
pub mod delta;
pub mod encoded;
pub mod encoding;
pub mod error;
pub mod ewc;
mod gram;
pub mod inexactness;
pub mod layout;
pub mod masking;
pub mod peft;
pub mod privacy;
#[cfg(test)]
mod properties;
pub mod row_space;
mod safetensors_bytes;
pub mod strategy;

pub use adapter::Adapter;
pub use encoding::Encoding;
pub use error::AdapterError;
pub use layout::{AdapterLayout, Factor, ModuleLayout};
