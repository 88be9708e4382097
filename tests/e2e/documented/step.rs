//! What is done with each command of the documents. One that is not known here fails the test, so that none is left out.

use super::markdown::Block;

/// What the README's commands begin with, so that each of them is all that a new machine needs. It is the same in both, and
/// `.ci/run` runs it.
const PREREQUISITES: &str = "(command -v cmake >/dev/null && command -v cc >/dev/null || (apt-get update && apt-get install -y cmake gcc make)) && ";

/// First words of commands that run literally in the sandbox.
const LITERAL: [&str; 9] = [
    "ballast",
    "curl",
    "for",
    "install",
    "kill",
    "openssl",
    "sleep",
    "systemctl",
    "useradd",
];

/// First words of commands that install packages or run containers, and what tests them in place of this.
const TESTED_ELSEWHERE: [(&str, &str); 5] = [
    ("apt-get", "the tests of the packages install them"),
    ("apt", "the tests of the packages install them"),
    ("dpkg", "the tests of the packages install them"),
    ("docker", "the tests of the container's file read it"),
    ("podman", "the tests of the container's file read it"),
];

/// What is done with a command.
#[derive(Debug)]
pub(super) enum Step {
    /// It runs until it ends, and succeeds.
    Run(String),
    /// The same, with etcd running.
    WithEtcd(String),
    /// It serves until something else is to serve.
    Serve(String),
    /// What it names is looked for.
    Cargo(String),
    Script(String),
    /// It is not run, for this reason.
    Elsewhere(&'static str),
}

impl Step {
    pub(super) fn of(command: &str) -> Option<Self> {
        let is_assignment = |word: &&str| {
            let name = word.split_once('=').map_or("", |(name, _)| name);
            !name.is_empty()
                && name
                    .chars()
                    .all(|letter| letter.is_ascii_uppercase() || letter == '_')
        };
        // A variable or a function of the shell, for the lines below.
        let beginning = command.split(' ').next().unwrap_or_default();
        if beginning.contains("=$(") || beginning.ends_with("()") {
            return Some(Step::run_or_etcd(command));
        }
        let mut words = command.split_whitespace().skip_while(is_assignment);
        let first = words.next()?;
        let without_variables = &command[command.find(first)?..];
        if let Some(arguments) = command.strip_prefix("cargo run --release -- ") {
            return Step::of(&format!("ballast {arguments}"));
        }
        if let Some((_, reason)) = TESTED_ELSEWHERE.iter().find(|(name, _)| *name == first) {
            return Some(Step::Elsewhere(reason));
        }
        let step = match (first, words.next()) {
            ("ballast", Some("run" | "demo")) => Step::Serve(command.to_owned()),
            ("cargo", _) => Step::Cargo(without_variables.to_owned()),
            ("bash" | "python3", _) => Step::Script(without_variables.to_owned()),
            _ if first.starts_with("benches/") || first.starts_with("packaging/") => {
                Step::Script(without_variables.to_owned())
            }
            _ if LITERAL.contains(&first) || first == "etcdctl" => Step::run_or_etcd(command),
            _ => return None,
        };
        Some(step)
    }

    fn run_or_etcd(command: &str) -> Self {
        match command.contains("etcdctl") {
            true => Step::WithEtcd(command.to_owned()),
            false => Step::Run(command.to_owned()),
        }
    }
}

/// The commands of a block, without comments.
pub(super) fn commands<'a>(block: &'a Block<'_>) -> impl Iterator<Item = &'a str> {
    let lines = block.text.lines();
    let lines = lines.map(|line| line.split(" # ").next().unwrap_or(line).trim());
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(|line| match line.strip_prefix(PREREQUISITES) {
        Some(rest) => vec![rest],
        None if is_shell_syntax(line) => vec![line],
        None => line.split(" && ").collect(),
    })
}

/// Whether `&&` is within something that cannot be cut there.
fn is_shell_syntax(line: &str) -> bool {
    line.contains("()") || line.starts_with("for ")
}

/// Whether a command talks to the service, as it names no other configuration.
pub(super) fn needs_service(command: &str) -> bool {
    const ALONE: [&str; 6] = [
        "ballast completions",
        "ballast man",
        "ballast schema",
        "ballast algorithms",
        "ballast simulate",
        "ballast --",
    ];
    let names_file = command.contains(" -c ") && !command.contains(" -c /etc/ballast/ballast.yaml");
    let is_alone = ALONE.iter().any(|alone| command.starts_with(alone));
    let is_ballast = command.starts_with("ballast ") && !is_alone && !names_file;
    let starts = command.contains(" start ") || command.contains(" --now ");
    is_ballast
        || command.contains("$PID")
        || command.starts_with("systemctl ") && !starts && !command.ends_with("daemon-reload")
}
