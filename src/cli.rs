//! The command line: one file per subcommand, arguments → one call into the library → output.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub mod adapter;
pub mod agent;
pub mod demo;
pub mod policy;
pub mod replay;

/// Columns to which help is wrapped.
const WIDTH: usize = 100;

/// A GPU autoscaler for LLM inference on Kubernetes.
///
/// Scrapes GPU exporters, attributes what they say to pods and KServe InferenceServices, and serves it through
/// custom.metrics.k8s.io and external.metrics.k8s.io. Unknown is never served as zero, stale is never served as fresh.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = WIDTH)]
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
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        })
    }
}

/// The error and its causes, each once: libraries' errors often repeat what is behind them.
fn with_causes(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = match cause.downcast_ref() {
            // What the API server says, without what is for programs.
            Some(kube::Error::Api(status)) => status.message.clone(),
            _ => cause.to_string(),
        };
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_says_each_cause_once() {
        let error = anyhow::anyhow!("file not found").context("load.csv: file not found").context("--suite traces");
        assert_eq!(with_causes(&error), "--suite traces: load.csv: file not found");
    }

    #[test]
    fn no_line_of_help_is_longer_than_the_width_to_which_help_is_wrapped() {
        for command in Cli::command().get_subcommands() {
            let texts = [command.get_after_help(), command.get_after_long_help()];
            for line in
                texts.into_iter().flatten().map(ToString::to_string).collect::<Vec<_>>().iter().flat_map(|t| t.lines())
            {
                assert!(line.chars().count() <= WIDTH, "{}: {line}", command.get_name());
            }
        }
    }
}
