//! The command line: parses the arguments, runs the command and returns its exit code.

mod algorithms;
mod check;
mod config_file;
mod control_client;
mod drain;
mod explain;
mod generate;
mod host;
mod log_level;
mod maintenance;
mod manual_pages;
mod plan;
mod pool_choice;
mod reload;
mod routes;
mod simulate;
mod status;
mod terminal;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::server::TakeoverRequest;
use crate::{demo, logging, server};

use config_file::ConfigArg;

/// The name of the program, independent of the names of its package and its executable.
const PROGRAM: &str = "ballast";

/// An HTTP load balancer on Pingora.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, after_help = AFTER_HELP)]
struct Args {
    #[command(subcommand)]
    command: CliCommand,
}

const AFTER_HELP: &str = "\
Examples:
  ballast demo                         try it out: a listener on 127.0.0.1:8080 and three built-in hosts
  ballast check -c ballast.yaml        list every error of the file, and preview a reload
  ballast run -c ballast.yaml          serve; SIGQUIT hands over to a new process, SIGTERM drains,
                                       SIGINT stops at once
  ballast plan -c ballast.yaml         what a reload would do to hosts, keys and connections
  ballast reload -c ballast.yaml       reload the changed file in the running process; --binary hands over to the
                                       binary on disk
  ballast status -c ballast.yaml       pools and hosts, each with its state and the reason; --watch repeats it
                                       until interrupted
  ballast drain HOST -c ballast.yaml   send no new requests to a host; --wait waits for those in flight; undrain
                                       reverts it

Environment:
  BALLAST_CONFIG the configuration file of every command without -c, instead of /etc/ballast/ballast.yaml
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
        /// Take over from the running process when it gets SIGQUIT; start as usual if none is running
        #[arg(long)]
        upgrade: bool,
        /// How long to wait for the running process to get SIGQUIT
        #[arg(long, value_name = "TIME", default_value = "60s", requires = "upgrade")]
        #[arg(value_parser = humantime::parse_duration)]
        upgrade_wait: Duration,
    },
    /// Check a configuration without serving: exit code 0 if it is valid, 2 if not. If a process runs with it, also
    /// show what a reload would do, and how that process differs from the file by changes of operators; nothing is applied
    #[command(after_help = "Example:\n  ballast check -c ballast.yaml")]
    Check(check::CheckArg),
    /// Reload the configuration of the running process: in place if that suffices, otherwise by a handover to a new
    /// process. A new binary on disk is used only after a handover, which --binary demands. If it fails, everything goes
    /// on as before, and the exit code is 1
    #[command(
        after_help = "Examples:\n  ballast reload -c ballast.yaml            after an edit of the file\n  ballast reload --binary -c ballast.yaml   after an upgrade of the program"
    )]
    Reload(reload::ReloadArg),
    /// Show what a reload would do, and do nothing: the changes, the hosts that come and go and what they lose, the share of
    /// hash keys that get another server, and the connections that end. Exit code 1 if the reload would fail or no process
    /// runs, 2 if the file is invalid
    #[command(
        after_help = "Examples:\n  ballast plan -c ballast.yaml\n  ballast plan -c new.yaml --against old.yaml"
    )]
    Plan(plan::PlanArg),
    /// Show the pools and hosts of the running process, with the state of each host and its reason, and how the process
    /// differs from the file and the binary on disk
    #[command(after_help = "Example:\n  ballast status --watch -c ballast.yaml")]
    Status(status::StatusArg),
    /// Send no new requests to a host of the running process, unless no other host is usable. Requests in flight may
    /// finish, and health checks go on. The drain survives reloads until the host's weight is edited
    #[command(after_help = "Example:\n  ballast drain 10.0.0.1:8080 --wait -c ballast.yaml")]
    Drain(drain::DrainArg),
    /// Send requests to a drained host again
    #[command(after_help = "Example:\n  ballast undrain 10.0.0.1:8080 -c ballast.yaml")]
    Undrain(drain::HostArg),
    /// Add, remove and weight hosts of the running process. A change survives reloads until the host is edited in the
    /// file
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Begin or end the maintenance of a pool of the running process: its clients get 503. Health checks go on. It
    /// survives reloads until `maintenance` of the pool is turned on or off in the file
    #[command(subcommand)]
    Maintenance(maintenance::MaintenanceCommand),
    /// Explain which host the running process would send a request to, and why. The result comes from the code that
    /// balances requests; nothing is sent or counted
    #[command(
        after_help = "Example:\n  ballast explain --pool web --client 10.1.2.3 -c ballast.yaml"
    )]
    Explain(explain::RequestArg),
    /// List the routes of a configuration in their order: what each matches and what it does. A route that no request can
    /// reach is an error of the file
    #[command(after_help = "Example:\n  ballast routes -c ballast.yaml")]
    Routes(ConfigArg),
    /// Simulate a pool of a configuration under load with each algorithm: latencies, and the share and the queue of each
    /// host. The code that balances requests chooses; nothing is sent, and a seed decides on everything random
    #[command(
        after_help = "Example:\n  ballast simulate -c ballast.yaml --rate 2000 --slow 10.0.0.1:8080=10x --plot web.svg"
    )]
    Simulate(simulate::SimulateArg),
    /// Show the log level of the running process, or change it until the process ends
    #[command(after_help = "Example:\n  ballast log-level debug -c ballast.yaml")]
    LogLevel(log_level::LevelArg),
    /// Print the shell completion script
    #[command(after_help = "Example:\n  ballast completions bash > /etc/bash_completion.d/ballast")]
    Completions(generate::ShellArg),
    /// Print the JSON Schema of the configuration, for completion and validation in editors
    #[command(after_help = "Example:\n  ballast schema > ballast.schema.json")]
    Schema,
    /// Print or write the manual pages
    #[command(after_help = "Example:\n  ballast man /usr/share/man/man1")]
    Man(generate::ManArg),
    /// List the balancing algorithms and their options
    Algorithms,
}

/// Selects the running process.
#[derive(Debug, clap::Args)]
struct ProcessArg {
    #[command(flatten)]
    config: ConfigArg,
    /// The control socket of the process, instead of the one in the configuration
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// An error that ends the program with a message and an exit code.
struct CliError {
    code: u8,
    message: String,
}

/// Wrong usage or configuration.
fn usage_error(message: impl fmt::Display) -> CliError {
    CliError {
        code: 2,
        message: message.to_string(),
    }
}

/// Failed while running.
fn runtime_error(message: impl fmt::Display) -> CliError {
    CliError {
        code: 1,
        message: message.to_string(),
    }
}

/// Runs the command given by the arguments of the process.
pub fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        CliCommand::Demo(addresses) => run_demo(&addresses),
        CliCommand::Run {
            config,
            upgrade,
            upgrade_wait,
        } => run(&config, upgrade.then_some(upgrade_wait)),
        CliCommand::Check(arg) => check::check(&arg),
        CliCommand::Reload(reload) => reload::reload(&reload),
        CliCommand::Plan(plan) => plan::plan(&plan),
        CliCommand::Status(status) => status::status(&status),
        CliCommand::Drain(args) => drain::drain(&args),
        CliCommand::Undrain(host) => drain::undrain(&host),
        CliCommand::Host(command) => host::host(command),
        CliCommand::Maintenance(command) => maintenance::maintenance(command),
        CliCommand::LogLevel(level) => log_level::log_level(&level),
        CliCommand::Completions(shell) => generate::completions(&shell),
        CliCommand::Schema => generate::schema(),
        CliCommand::Man(folder) => generate::man(&folder),
        CliCommand::Explain(request) => explain::explain(&request),
        CliCommand::Routes(config) => routes::routes(&config),
        CliCommand::Simulate(scenario) => simulate::run(scenario),
        CliCommand::Algorithms => {
            print!("{}", algorithms::table());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError { code, message }) => {
            #[expect(clippy::print_stderr, reason = "errors are shown at any log level")]
            {
                eprintln!("{}", message.trim_end());
            }
            ExitCode::from(code)
        }
    }
}

fn load(file: &Path) -> Result<Config, CliError> {
    Config::load(file).map_err(usage_error)
}

fn run_demo(addresses: &demo::Addresses) -> Result<(), CliError> {
    let hosts =
        demo::start_hosts().map_err(|error| runtime_error(format!("demo hosts: {error}")))?;
    let token =
        demo::token().map_err(|_| runtime_error("cannot get random numbers from the system"))?;
    let config = demo::config(&hosts, addresses, &token).map_err(usage_error)?;
    let guide = demo::guide(addresses, &token);
    serve(config, None, None, || println!("{guide}"))
}

/// Serves with the file. `upgrade`: take over from the running process, waiting this long for it to hand over.
fn run(config: &ConfigArg, upgrade: Option<Duration>) -> Result<(), CliError> {
    let upgrade = upgrade.map(TakeoverRequest::prepare).transpose();
    let upgrade = upgrade.map_err(runtime_error)?;
    let file = config.file();
    let loaded = config.load();
    let served =
        loaded.and_then(|config| serve(config, Some(file.path()), upgrade.as_ref(), || ()));
    if let (Some(upgrade), Err(failure)) = (&upgrade, &served) {
        upgrade.report_failure(&failure.message);
    }
    served
}

fn serve(
    config: Config,
    file: Option<&Path>,
    upgrade: Option<&TakeoverRequest>,
    before: impl FnOnce(),
) -> Result<(), CliError> {
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
