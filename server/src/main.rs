//! The program `foedus-server`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    server::main()
}
