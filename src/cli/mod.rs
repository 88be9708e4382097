//! The command line: what was asked for, carried out, and turned into an exit code.

mod algorithms;
mod check;
mod control_client;
mod drain;
mod explain;
mod generate;
mod host;
mod log_level;
mod reload;
mod status;
mod terminal;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::server::TakeoverRequest;
use crate::server::runtime_paths::DEFAULT_CONFIG;
use crate::{demo, logging, server};

/// An HTTP load balancer on Pingora.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Args {
    #[command(subcommand)]
    command: CliCommand,
}

const AFTER_HELP: &str = "\
Examples:
  ballast demo                         try it out: a listener on 127.0.0.1:8080 and three built-in hosts
  ballast check -c ballast.yaml        every error of the file at once, and what a reload would do
  ballast run -c ballast.yaml          serve; SIGQUIT hands over to a new process, SIGTERM drains,
                                       SIGINT stops at once
  ballast reload -c ballast.yaml       make the running process take in the changed file
  ballast status -c ballast.yaml       its pools and hosts, each with its state and the reason; --watch for ever
  ballast drain HOST -c ballast.yaml   no new requests to a host; undrain for the way back

Environment:
  BALLAST_LOG    error, warn, info (default), debug or trace, for all or by module: info,pingora_proxy=debug

Exit codes:
  0 done, 1 failed while running, 2 wrong usage or configuration";

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Serve with three built-in hosts and a dashboard; no file needed
    Demo(demo::Addresses),
    /// Serve in the foreground, with logs on stderr
    #[command(after_help = "Example:\n  ballast run -c ballast.yaml")]
    Run {
        #[command(flatten)]
        config: ConfigArg,
        /// Take over from the process that serves, when it gets SIGQUIT; start as usual if there is none
        #[arg(long)]
        upgrade: bool,
        /// How long to wait for that SIGQUIT
        #[arg(long, value_name = "TIME", default_value = "60s", requires = "upgrade")]
        #[arg(value_parser = humantime::parse_duration)]
        upgrade_wait: Duration,
    },
    /// Check a configuration without serving: exit code 0 if it is good, 2 if not. Where a process runs with it, that one
    /// is asked what a reload would do; nothing is applied
    #[command(after_help = "Example:\n  ballast check -c ballast.yaml")]
    Check(ProcessArg),
    /// Make the running process take in its changed configuration: within the process where that suffices, otherwise by
    /// handing over to a new one
    #[command(after_help = "Example:\n  ballast reload -c ballast.yaml")]
    Reload(ProcessArg),
    /// Show the pools and hosts of the running process, each host with its state and the reason for it
    #[command(after_help = "Example:\n  ballast status --watch -c ballast.yaml")]
    Status(status::StatusArg),
    /// Send no new requests to a host of the running process, unless no other is usable; those that run may end, and the
    /// host is still checked. It holds over reloads until the host's weight is edited
    #[command(after_help = "Example:\n  ballast drain 10.0.0.1:8080 -c ballast.yaml")]
    Drain(drain::HostArg),
    /// Send requests to a drained host again
    #[command(after_help = "Example:\n  ballast undrain 10.0.0.1:8080 -c ballast.yaml")]
    Undrain(drain::HostArg),
    /// Add, remove and weigh hosts of the running process. It holds over reloads until the file says something else of them
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Tell which host the running process would send a request to, and why to no other. It is told by the code that
    /// chooses; nothing is sent or counted, and no turn moves
    #[command(
        after_help = "Example:\n  ballast explain --pool web --client 10.1.2.3 -c ballast.yaml"
    )]
    Explain(explain::RequestArg),
    /// Tell how much the running process logs, or change it until it is replaced
    #[command(after_help = "Example:\n  ballast log-level debug -c ballast.yaml")]
    LogLevel(log_level::LevelArg),
    /// Print what completes this command line in a shell
    #[command(after_help = "Example:\n  ballast completions bash > /etc/bash_completion.d/ballast")]
    Completions(generate::ShellArg),
    /// Print the JSON Schema of the configuration, by which editors complete and check
    #[command(after_help = "Example:\n  ballast schema > ballast.schema.json")]
    Schema,
    /// Print or write the manual pages
    #[command(after_help = "Example:\n  ballast man /usr/share/man/man1")]
    Man(generate::ManArg),
    /// List the balancing algorithms and their options
    Algorithms,
}

#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Which running process is meant.
#[derive(Debug, clap::Args)]
struct ProcessArg {
    #[command(flatten)]
    config: ConfigArg,
    /// The control socket of the process, if it is not where the configuration says
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Something that ends the program with a message and an exit code.
struct Failure {
    code: u8,
    message: String,
}

/// Wrong usage or configuration.
fn usage_error(message: impl fmt::Display) -> Failure {
    Failure {
        code: 2,
        message: message.to_string(),
    }
}

/// Failed while running.
fn runtime_error(message: impl fmt::Display) -> Failure {
    Failure {
        code: 1,
        message: message.to_string(),
    }
}

/// Does what the arguments of the process ask for.
pub fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        CliCommand::Demo(addresses) => run_demo(&addresses),
        CliCommand::Run {
            config,
            upgrade,
            upgrade_wait,
        } => run(&config.config, upgrade.then_some(upgrade_wait)),
        CliCommand::Check(process) => check::check(&process),
        CliCommand::Reload(process) => reload::reload(&process),
        CliCommand::Status(status) => status::status(&status),
        CliCommand::Drain(host) => drain::drain(&host),
        CliCommand::Undrain(host) => drain::undrain(&host),
        CliCommand::Host(command) => host::host(command),
        CliCommand::LogLevel(level) => log_level::log_level(&level),
        CliCommand::Completions(shell) => generate::completions(&shell),
        CliCommand::Schema => generate::schema(),
        CliCommand::Man(folder) => generate::man(&folder),
        CliCommand::Explain(request) => explain::explain(&request),
        CliCommand::Algorithms => {
            print!("{}", algorithms::table());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            #[expect(
                clippy::print_stderr,
                reason = "errors are for people, with any log level"
            )]
            {
                eprintln!("{}", message.trim_end());
            }
            ExitCode::from(code)
        }
    }
}

fn load(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(usage_error)
}

fn run_demo(addresses: &demo::Addresses) -> Result<(), Failure> {
    let hosts =
        demo::start_hosts().map_err(|error| runtime_error(format!("demo hosts: {error}")))?;
    let token = demo::token().map_err(|_| runtime_error("the system gives no random numbers"))?;
    let config = demo::config(&hosts, addresses, &token).map_err(usage_error)?;
    let guide = demo::guide(addresses, &token);
    serve(config, None, None, || println!("{guide}"))
}

/// `upgrade`: how long to wait for the process that serves to hand over.
fn run(file: &Path, upgrade: Option<Duration>) -> Result<(), Failure> {
    let upgrade = upgrade.map(TakeoverRequest::prepare).transpose();
    let upgrade = upgrade.map_err(runtime_error)?;
    let config = load(file)?;
    serve(config, Some(file), upgrade.as_ref(), || ())
}

fn serve(
    config: Config,
    file: Option<&Path>,
    upgrade: Option<&TakeoverRequest>,
    before: impl FnOnce(),
) -> Result<(), Failure> {
    logging::start();
    let server = server::PreparedServer::new(config, file, upgrade);
    let server = server.map_err(|error| match error {
        server::StartError::Listen(_) | server::StartError::Files(_) => runtime_error(error),
        _ => usage_error(error),
    })?;
    before();
    server.run();
    Ok(())
}
