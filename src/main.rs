//! The `tidegate` binary: crypto provider, command line, exit status.

use clap::Parser;

fn main() -> std::process::ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        unreachable!("nothing has chosen a crypto provider before main");
    }
    tidegate::cli::Cli::parse().run()
}
