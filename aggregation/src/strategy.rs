//! How updates become the next global adapter: one strategy a file.

pub mod fedavg;
pub mod fixed_point;
