//! How updates become the next global adapter: one strategy a file.
//!
//! [`fedavg`] adds updates up as they arrive. The [`robust`] rules need all of a round's updates at once and read them block
//! by block from where they were kept.

mod columns;
mod distance;
pub mod fedavg;
pub mod fixed_point;
mod geometric_median;
mod krum;
mod median;
mod ranks;
pub mod robust;
mod trimmed_mean;
