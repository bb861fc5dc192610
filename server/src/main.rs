//! The program `foedus-server`; everything is in the library.

use std::process::ExitCode;

/// Gives freed memory back after a second: the next piece of a transfer takes what the last one had, and an idle server is small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    server::main()
}
