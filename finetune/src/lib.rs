//! Llama-family models with LoRA adapters on burn: load, data, train, evaluate, generate, Fisher information.
//!
//! It knows no federation and no protocol. Its one use of a network is [`hub`], which fetches a base model; there is
//! no async runtime. Adapters are the plain numbers of the `aggregation` crate.

pub mod adamw;
pub mod allocator;
pub mod answers;
pub mod base;
pub mod batch;
pub mod chat;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod fisher;
pub mod generate;
pub mod generate_cache;
pub mod gguf;
pub mod hub;
pub mod lora;
pub mod mapped_file;
pub mod model;
pub mod precision;
pub mod privacy;
pub mod product_rate;
pub mod random_weights;
pub mod recipe;
pub mod schedule;
pub mod tiny;
pub mod tokenizer;
pub mod train;
pub mod weights;

mod host;
mod ops;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod shared;

pub use error::LoadError;
