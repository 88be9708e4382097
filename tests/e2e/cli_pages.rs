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
fn every_command_has_a_manual_page_with_its_sections() {
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
    for name in &names {
        let page = fs::read_to_string(pages.join(name)).expect("the file exists");
        assert_layout(name, &page);
    }

    let Some(groff) = peer("groff") else { return };
    for name in &names {
        let mut command = Command::new(&groff);
        command
            .args(["-man", "-ww", "-Tutf8"])
            .arg(pages.join(name));
        let end = finish(command);
        assert_eq!((end.code, &*end.stderr), (Some(0), ""), "{name}");
        assert!(end.stdout.contains("ballast"), "{name}");
    }
}

/// The sections of a page in the order of man-pages(7), with those that it does not know before EXIT STATUS.
const SECTIONS: [&str; 13] = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "COMMANDS",
    "KEYS",
    "SIGNALS",
    "\"EXIT STATUS\"",
    "ENVIRONMENT",
    "FILES",
    "NOTES",
    "EXAMPLES",
    "\"SEE ALSO\"",
];

#[track_caller]
fn assert_layout(name: &str, page: &str) {
    let (command, section) = name.rsplit_once('.').expect("a section");
    let title = page.lines().find_map(|line| line.strip_prefix(".TH "));
    let title = title.unwrap_or_else(|| panic!("{name} has no title:\n{page}"));
    let date = title.strip_prefix(&format!("{command} {section} "));
    let date = date.unwrap_or_else(|| panic!("{name}: {title}"));
    let version = env!("CARGO_PKG_VERSION");
    let (date, rest) = date.split_once(' ').expect("a date");
    assert_eq!(
        rest,
        format!("\"Ballast {version}\" \"Ballast Manual\""),
        "{name}"
    );
    let is_date = |(place, letter): (usize, char)| match place {
        4 | 7 => letter == '-',
        _ => letter.is_ascii_digit(),
    };
    assert!(
        date.len() == 10 && date.chars().enumerate().all(is_date),
        "{name}: {date}"
    );
    let headings = page.lines().filter_map(|line| line.strip_prefix(".SH "));
    let places = headings.map(|heading| {
        let place = SECTIONS.iter().position(|section| *section == heading);
        place.unwrap_or_else(|| panic!("{name}: section {heading}"))
    });
    let places = Vec::from_iter(places);
    assert!(places.is_sorted_by(|a, b| a < b), "{name}: {places:?}");
    // apropos(1) reads one line with a dash.
    let summary = page.split_once(".SH NAME\n").expect("a name").1;
    let summary = summary.lines().next().unwrap_or_default();
    assert!(
        summary.contains(" \\- ") && summary.len() < 160,
        "{name}: {summary}"
    );
}

#[test]
fn the_date_of_the_pages_can_be_set() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ballast"));
    command.arg("man").env("SOURCE_DATE_EPOCH", "1000000000");
    let end = finish(command);
    assert!(end.stdout.contains(".TH ballast 1 2001-09-09 "), "{end:?}");
}

#[test]
fn unwritable_pages_print_one_line_and_exit_1() {
    let end = run(&["man", "/proc/no/such"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.starts_with("cannot write to /proc/no/such: "));
    assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
}
