//! foedus-server once more, for the system tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    server::main()
}
