//! The operations of an adapted decoder, each with its explicit backward; one file per operation.
//!
//! Every operation has two implementations with the same result: loops over slices for the CPU ([`crate::host`]) and
//! `burn` tensor operations for any other device. There is no autodiff here: what backward needs is handed back to it
//! by the model. The tests hold both against `burn`'s autodiff and against finite differences.

pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod device_blocks;
pub(crate) mod dropout;
pub(crate) mod frozen;
pub(crate) mod linear;
pub(crate) mod narrow;
pub(crate) mod product;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod rows;
pub(crate) mod swiglu;
#[cfg(test)]
mod tests;
