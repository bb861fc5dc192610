//! The program `foedus-client`: see [`client`].

use std::process::ExitCode;

/// Keeps freed memory for the next step: a third of a training step on the CPU would go into zeroing fresh pages.
#[global_allocator]
static ALLOCATOR: finetune::allocator::Allocator = finetune::allocator::Allocator;

fn main() -> ExitCode {
    client::main()
}
