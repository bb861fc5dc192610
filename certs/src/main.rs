//! `foedus-certs`: see the library.

fn main() -> std::process::ExitCode {
    certs::main()
}
