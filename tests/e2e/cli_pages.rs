//! Completions and manual pages, generated from the description of the command line.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::support::{finish, peer, run};

/// Every command that `ballast help` lists.
fn commands() -> Vec<String> {
    let help = run(&["--help"]).stdout;
    let listed = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty());
    // A description may continue on further lines, which are indented more.
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names = names.filter(|name| !name.is_empty() && *name != "help");
    let names = Vec::from_iter(names.map(str::to_owned));
    assert!(names.len() > 10, "{help}");
    names
}

#[test]
fn completions_contain_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish"] {
        let end = run(&["completions", shell]);
        assert_eq!(end.code, Some(0), "{end:?}");
        for command in commands() {
            assert!(end.stdout.contains(&command), "{shell}: {command}");
        }
    }
    let end = run(&["completions", "dos"]);
    assert_eq!(end.code, Some(2), "{end:?}");
    assert!(end.stderr.contains("bash"), "{end:?}");
}

#[test]
fn bash_loads_its_completions() {
    let Some(bash) = peer("bash") else { return };
    let script = run(&["completions", "bash"]).stdout;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("ballast");
    fs::write(&file, script).expect("the folder can be written");
    let mut command = Command::new(bash);
    let asked = "source \"$0\"; COMP_WORDS=(ballast und); COMP_CWORD=1; _ballast ballast und ballast; echo \"${COMPREPLY[@]}\"";
    command.args(["-c", asked]).arg(&file);
    let end = finish(command);
    assert_eq!(end.stdout.trim(), "undrain", "{end:?}");
}

#[test]
fn every_command_has_a_manual_page_that_renders() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let pages = folder.path().join("man1");
    let end = run(&["man", &pages.display().to_string()]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let files = fs::read_dir(&pages).expect("the folder exists");
    let names = files.map(|file| file.expect("the entry can be read").file_name());
    let names = names.map(|name| name.into_string().expect("a name in UTF-8"));
    let names = BTreeSet::from_iter(names);
    let subcommands = ["host-add", "host-remove", "host-weight"].map(str::to_owned);
    for command in commands().into_iter().chain(subcommands) {
        assert!(names.contains(&format!("ballast-{command}.1")), "{names:?}");
    }
    let single = run(&["man"]);
    let page = fs::read_to_string(pages.join("ballast.1")).expect("the file exists");
    assert_eq!(single.stdout, page);

    let Some(groff) = peer("groff") else { return };
    for name in &names {
        let mut command = Command::new(&groff);
        command.args(["-man", "-ww", "-z"]).arg(pages.join(name));
        let end = finish(command);
        assert_eq!((end.code, &*end.stderr), (Some(0), ""), "{name}");
    }
}

#[test]
fn unwritable_pages_print_one_line_and_exit_1() {
    let end = run(&["man", "/proc/no/such"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.starts_with("cannot write to /proc/no/such: "));
    assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
}
