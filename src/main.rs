//! The command line: nouns and verbs for people, `--json` for machines, exit 0 yes, 1 no, 2 could not.

mod cli;
mod demo;
mod fsck;
mod handover;
mod join;
mod outside;
mod pooled;

use clap::Parser;
use std::process::ExitCode;

/// Bytes of stack for the command.
const STACK: usize = 16 << 20;

fn main() -> ExitCode {
    let level = std::env::var("COMITY_LOG").unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .init();
    let cli = cli::Cli::parse();
    // On a thread with a stack of known size: the policy language measures what is left of it, and where the first
    // thread's cannot be measured (musl) it would refuse every rule.
    let worker = std::thread::Builder::new().name("comity".into()).stack_size(STACK).spawn(|| cli::run(cli));
    match worker.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => ExitCode::from(code),
        _ => ExitCode::from(2),
    }
}
