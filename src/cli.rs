//! The command line: one file per subcommand, arguments → one call into the library → output.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub mod adapter;
pub mod agent;
pub mod demo;
pub mod policy;
pub mod replay;

/// A GPU autoscaler for LLM inference on Kubernetes.
///
/// Scrapes GPU exporters, attributes what they say to pods and KServe InferenceServices, and serves it through
/// custom.metrics.k8s.io and external.metrics.k8s.io. Unknown is never served as zero, stale is never served as fresh.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Adapter(Box<adapter::Args>),
    Agent(Box<agent::Args>),
    Demo(demo::Args),
    Policy(policy::Args),
    Replay(Box<replay::Args>),
    /// Print a shell completion script.
    ///
    /// For bash: source <(tidegate completions bash)
    Completions {
        /// The shell to complete in.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Runs the chosen subcommand to its end. Errors go to standard error, with their causes.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Adapter(args) => adapter::run(*args),
            Command::Agent(args) => agent::run(*args),
            Command::Demo(args) => demo::run(&args),
            Command::Policy(args) => policy::run(args),
            Command::Replay(args) => replay::run(&args),
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "tidegate", &mut std::io::stdout());
                Ok(ExitCode::SUCCESS)
            }
        };
        result.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
