//! The program `foedus-sim`: see [`simulations::cli`].

use std::process::ExitCode;

/// Keeps freed memory for the next step: a third of a training step on the CPU would go into zeroing fresh pages.
#[global_allocator]
static ALLOCATOR: finetune::allocator::Allocator = finetune::allocator::Allocator;

fn main() -> ExitCode {
    simulations::cli::main()
}
