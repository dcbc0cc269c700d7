//! The command line: nouns and verbs for people, `--json` for machines, exit 0 yes, 1 no, 2 could not.

mod cli;
mod demo;
mod join;
mod pooled;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let level = std::env::var("COMITY_LOG").unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .init();
    let cli = cli::Cli::parse();
    ExitCode::from(cli::run(cli))
}
