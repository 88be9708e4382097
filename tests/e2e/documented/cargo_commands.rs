//! Commands of the documents that build, test or measure. They take minutes, so what they name is looked for instead: the
//! target, the test, the scenario, the option.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::markdown::root;
use crate::support::finish;

/// Options that name nothing in the repository.
const PLAIN_OPTIONS: [&str; 7] = [
    "--locked",
    "--release",
    "--workspace",
    "--all-targets",
    "--no-deps",
    "--all",
    "--open",
];

/// What is wrong with a command of cargo; the command begins with `cargo`.
pub(super) fn check_cargo(command: &str) -> Result<(), String> {
    let (arguments, passed_on) = command.split_once(" -- ").unwrap_or((command, ""));
    let mut words = arguments.split_whitespace().skip(1);
    let subcommand = words.next().ok_or("no subcommand")?;
    let mut package = "";
    let mut target = None;
    let mut names = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "-p" => package = words.next().ok_or("no package")?,
            "--lib" => target = Some("lib"),
            "--test" | "--bench" | "--example" | "--path" => target = words.next(),
            _ if PLAIN_OPTIONS.contains(&word) => {}
            _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
            _ => names.push(word),
        }
    }
    let folder = match package {
        "" | "ballast-lb" => root(),
        "ballast-balancer" => root().join("balancer"),
        other => return Err(format!("no package {other}")),
    };
    match (subcommand, target) {
        ("test" | "bench" | "build" | "doc", None) if names.is_empty() => Ok(()),
        // In a project of the reader's, or a tool from the registry.
        ("new" | "run" | "install", None) => Ok(()),
        ("test", Some("e2e")) => names.iter().try_for_each(|name| has_test(name)),
        ("test", Some("lib")) => {
            let sources = folder.join("src");
            names.iter().try_for_each(|name| has_module(&sources, name))
        }
        ("test", Some(target)) => {
            let tests = [folder.join("tests"), root().join("balancer/tests")];
            let sources = tests.iter().find_map(|tests| target_in(tests, target));
            let sources = sources.ok_or(format!("no tests {target}"))?;
            names.iter().try_for_each(|name| has_module(&sources, name))
        }
        ("bench", Some(target)) => {
            let sources = target_in(&folder.join("benches"), target);
            let sources = sources.ok_or(format!("no bench {target}"))?;
            check_bench_arguments(&sources, passed_on)
        }
        ("run", Some(example)) => match target_in(&folder.join("examples"), example) {
            Some(_) => Ok(()),
            None => Err(format!("no example {example}")),
        },
        ("install" | "add", Some(path)) if is_package(path) => Ok(()),
        _ => Err("no such target, package or command of cargo".to_owned()),
    }
}

/// Whether a path leads to a package, perhaps from a project beside a checkout.
fn is_package(path: &str) -> bool {
    let within = path.split_once("ballast/").map_or(path, |(_, rest)| rest);
    root().join(within).join("Cargo.toml").is_file()
}

/// The file or folder of a test or bench target.
fn target_in(folder: &Path, target: &str) -> Option<std::path::PathBuf> {
    let file = folder.join(format!("{target}.rs"));
    let candidates = [file, folder.join(target)];
    candidates.into_iter().find(|candidate| candidate.exists())
}

/// Whether this test binary has a test whose name contains a filter.
fn has_test(filter: &str) -> Result<(), String> {
    let mut command = Command::new(env::current_exe().expect("the test binary has a path"));
    command.args(["--list", filter]);
    match finish(command).stdout.contains(": test") {
        true => Ok(()),
        false => Err(format!("no test {filter}")),
    }
}

/// Whether sources have a module or function with the name that a filter ends with, or a file of that name.
fn has_module(sources: &Path, filter: &str) -> Result<(), String> {
    let name = filter.trim_end_matches("::");
    let name = name.rsplit("::").next().unwrap_or(name);
    let declarations = [format!("mod {name}"), format!("fn {name}")];
    let mut folders = vec![sources.to_owned()];
    while let Some(path) = folders.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).map_err(|error| error.to_string())?;
            folders.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        } else if let Ok(text) = fs::read_to_string(&path)
            && declarations.iter().any(|declared| text.contains(declared))
        {
            return Ok(());
        }
    }
    Err(format!("no test {filter}"))
}

/// A bench takes scenarios, which are variants, and options, which are fields.
fn check_bench_arguments(sources: &Path, arguments: &str) -> Result<(), String> {
    let main = sources.join("main.rs");
    let text = fs::read_to_string(if main.exists() { &main } else { sources });
    let text = text.map_err(|error| error.to_string())?;
    let mut words = arguments.split_whitespace();
    while let Some(word) = words.next() {
        let declared = match word.strip_prefix("--") {
            Some(option) => {
                // Its value, up to the end of the quotes.
                let value = words.next().unwrap_or_default();
                if value.starts_with('"') && !value.ends_with('"') {
                    words.find(|word| word.ends_with('"'));
                }
                format!("    {}: ", option.replace('-', "_"))
            }
            None => format!("    {},", variant(word)),
        };
        if !text.contains(&declared) {
            return Err(format!("the bench has no {word}"));
        }
    }
    Ok(())
}

/// `slow_clients` as `SlowClients`.
fn variant(name: &str) -> String {
    let words = name.split(['_', '-']);
    let words = words.map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}

/// What is wrong with a command that runs a script of the repository. Those in Python list their options.
pub(super) fn check_script(command: &str) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let script = words.find(|word| !["bash", "python3"].contains(word));
    let script = script.ok_or("no script")?;
    let path = root().join(script);
    if !path.is_file() {
        return Err(format!("no file {script}"));
    }
    let mut check = if script.ends_with(".py") {
        let mut check = Command::new("python3");
        check.arg(&path).arg("--help").current_dir(root());
        check
    } else {
        let mut check = Command::new("bash");
        check.arg("-n").arg(&path);
        check
    };
    // Scripts that import one another leave nothing behind.
    check.env("PYTHONDONTWRITEBYTECODE", "1");
    let end = finish(check);
    if end.code != Some(0) {
        return Err(end.stderr);
    }
    let options = words.filter(|word| word.starts_with("--"));
    let unknown = options
        .map(|option| option.split('=').next().unwrap_or(option))
        .find(|option| !end.stdout.contains(*option));
    match unknown {
        Some(option) => Err(format!("{script} has no {option}")),
        None => Ok(()),
    }
}
