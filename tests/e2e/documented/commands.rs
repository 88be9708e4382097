//! Every command in a block is run, literally where it can be; see [`Step`] for the others.

use std::collections::BTreeMap;
use std::thread;

use super::cargo_commands::{check_cargo, check_script};
use super::markdown::{Document, documents};
use super::sandbox::Sandbox;
use super::step::{Step, commands, needs_service};
use crate::support::file;

/// Puts the files of a document into its sandbox: those that it shows, and those that it only names.
fn write_configurations(sandbox: &Sandbox, shown: impl Iterator<Item = (String, String)>) {
    let readme = Document::named("README.md");
    let mut files = BTreeMap::new();
    for block in readme.blocks() {
        if let Some(path) = block.file {
            files.insert(path.to_owned(), block.text);
        }
    }
    let web = files.get("web.yaml").expect("the README shows it").clone();
    let other = web.replace("127.0.0.1:8081", "10.0.0.1:8080");
    files.insert("ballast.yaml".to_owned(), other);
    for name in ["new.yaml", "old.yaml"] {
        files.insert(name.to_owned(), web.clone());
    }
    files.extend(shown);
    for (path, text) in files {
        match path.strip_prefix("/etc/ballast/") {
            None => _ = file(sandbox.folder(), &path, &text),
            Some(name) => {
                file(sandbox.folder(), "shown", &text);
                let end = sandbox.run(&format!("cp shown /etc/ballast/{name}"));
                assert_eq!(end.code, Some(0), "{end:?}");
            }
        }
    }
}

#[test]
fn every_command_of_the_documents_works() {
    let documents = documents();
    // Most of the time they wait.
    let counts = thread::scope(|scope| {
        let checks = documents.iter();
        let checks = checks.map(|document| scope.spawn(|| check_commands(document)));
        let checks = Vec::from_iter(checks);
        let counts = checks.into_iter().map(|check| check.join());
        Vec::from_iter(counts.map(|count| count.expect("every command works")))
    });
    if let Some(counts) = counts.into_iter().collect::<Option<Vec<_>>>() {
        let count: usize = counts.into_iter().sum();
        assert!(count > 40, "{count} commands");
    }
}

/// Returns how many commands were run; `None` where there can be no sandbox.
fn check_commands(document: &Document) -> Option<usize> {
    let blocks = document.blocks();
    let mut steps = Vec::new();
    for block in blocks.iter().filter(|block| block.language == "sh") {
        for command in commands(block) {
            let step = Step::of(command).unwrap_or_else(|| {
                panic!("{}: what is to be done with: {command}", block.place);
            });
            steps.push((block.place.clone(), step));
        }
    }
    for (place, step) in &steps {
        let outcome = match step {
            Step::Cargo(command) => check_cargo(command).map_err(|error| (command, error)),
            Step::Script(command) => check_script(command).map_err(|error| (command, error)),
            _ => Ok(()),
        };
        if let Err((command, error)) = outcome {
            panic!("{place}: {command}: {error}");
        }
    }
    let is_run = |step: &Step| matches!(step, Step::Run(_) | Step::WithEtcd(_) | Step::Serve(_));
    let count = steps.iter().filter(|(_, step)| is_run(step)).count();
    if count == 0 {
        return Some(0);
    }
    let mut sandbox = Sandbox::new()?;
    let shown = blocks.into_iter();
    let shown = shown.filter_map(|block| Some((block.file?.to_owned(), block.text)));
    write_configurations(&sandbox, shown);
    run_steps(&mut sandbox, &steps);
    Some(count)
}

/// Runs the steps of a document in their order. Variables and functions of a block hold for its later lines.
fn run_steps(sandbox: &mut Sandbox, steps: &[(String, Step)]) {
    let mut definitions = Vec::new();
    let mut block = "";
    for (place, step) in steps {
        if block != place {
            definitions.clear();
            block = place;
        }
        let command = match step {
            Step::Serve(command) => {
                let probe = match command.split_once(" -c ") {
                    Some((_, file)) => format!("ballast status -c {file}"),
                    None => "curl -sf 127.0.0.1:8080".to_owned(),
                };
                sandbox.serve(command, &probe);
                continue;
            }
            Step::WithEtcd(_) if !sandbox.ensure_etcd() => continue,
            Step::WithEtcd(command) | Step::Run(command) => command,
            Step::Elsewhere(reason) => {
                println!("{place}: not run here: {reason}");
                continue;
            }
            Step::Cargo(_) | Step::Script(_) => continue,
        };
        if needs_service(command) {
            sandbox.ensure_service();
        }
        // As many requests as the documents simulate take minutes in a build without optimisation.
        let shortened = match command.starts_with("ballast simulate ") {
            true => format!("{command} --requests 2000"),
            false => command.clone(),
        };
        let script = format!(
            "PID=$(cat /run/ballast/ballast.pid 2>/dev/null || true)\n{}\n{shortened}",
            definitions.join("\n")
        );
        let end = sandbox.run(&script);
        assert_eq!(
            end.code,
            Some(0),
            "{place}: {command}\n{}{}",
            end.stdout,
            end.stderr
        );
        let is_definition = command.contains("() {")
            || command
                .split(' ')
                .next()
                .is_some_and(|word| word.contains('='));
        if is_definition {
            definitions.push(command.as_str());
        }
    }
}
