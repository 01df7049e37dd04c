//! The operator's command: it speaks the public API over the control process's Unix socket,
//! prints tables for people and the API's own JSON for programs, and starts and stops the two
//! processes for `up` and `replay`.
//!
//! `main` calls [`run`]; tests call the printers in [`print`] with fixed values. Nothing here knows
//! the shared memory, the policy image or the history files: the public protocol is the only door.

#![forbid(unsafe_code)]

pub mod args;
pub mod capacity;
pub mod client;
pub mod collector_spec;
mod commands;
mod configuration;
mod doctor;
pub mod error;
pub mod exit;
pub mod metrics_spec;
mod offline;
pub mod output;
pub mod page;
pub mod port_spec;
pub mod print;
pub mod process;
mod progress;
pub mod quantity;
pub mod replay;
pub mod settle;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::Cli;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;

/// Runs the command line and says how it ended.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(child) = process::BoundChild::asked(&arguments) {
        return child.become_it().into();
    }
    let cli = match Cli::parse_line(arguments) {
        Ok(cli) => cli,
        Err(message) => {
            let exit = if message.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            // Help into a closed pipe is nobody's loss.
            let _ = message.print();
            return exit.into();
        }
    };
    process::guard_panics();
    let output = Output::detect();
    let json = cli.json;
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)
        .and_then(|runtime| runtime.block_on(commands::run(cli, output)));
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            commands::report(&error, json, output);
            error.exit().into()
        }
    }
}
