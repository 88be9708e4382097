//! The manual pages of the commands, with the sections that man-pages(7) asks for, in its order.
//!
//! Synopsis, description, options, commands, examples, environment and exit codes come from the description of the
//! command line, so that a page cannot say anything else than `--help`. What no help text has stands here: signals and
//! files.

use clap::Command;
use clap_mangen::Man;
use roff::{Inline, Roff, bold, italic, roman};

use crate::manual_title::title;
use crate::server::runtime_paths::DEFAULT_CONFIG;

/// The section of the manual for commands.
const SECTION: &str = "1";

/// A summary that is longer ends with its first clause, so that it fits a line of apropos(1).
const MAX_SUMMARY: usize = 80;

/// What the program is, before the description of its commands.
const INTRODUCTION: &str = "ballast passes HTTP requests on to the hosts of pools, which it checks, and which one YAML \
file describes. Commands to the process that runs with a file find it by that file.";

/// What the serving process does on a signal.
const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGHUP",
        "Reloads the file in place. What needs a new process is refused, and nothing is applied.",
    ),
    (
        "SIGQUIT",
        "Hands over to a new process, from the binary and the file that are on disk now. Until it serves, this process \
         goes on; then it drains.",
    ),
    (
        "SIGTERM",
        "/ready turns 503, server.drain_delay passes, and no new connection is accepted; the process ends with the last \
         request, at most after server.grace_period. A second one ends it at once.",
    ),
    ("SIGINT", "Ends the process at once."),
    ("SIGUSR1", "Opens the access log again, for logrotate(8)."),
];

/// A page and the name of its file.
pub(super) struct ManualPage {
    pub(super) file: String,
    pub(super) text: String,
}

/// The pages of a program, its own first, and of all its commands.
pub(super) fn all(program: Command) -> Vec<ManualPage> {
    // `help` needs no page.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add_pages(&program, &program, None, &mut pages);
    pages
}

fn add_pages(
    program: &Command,
    command: &Command,
    parent: Option<&Command>,
    pages: &mut Vec<ManualPage>,
) {
    pages.push(ManualPage {
        file: format!("{}.{SECTION}", page_name(command)),
        text: page(program, command, parent),
    });
    for subcommand in visible_subcommands(command) {
        add_pages(program, subcommand, Some(command), pages);
    }
}

fn page(program: &Command, command: &Command, parent: Option<&Command>) -> String {
    let mut text = opening_sections(command, parent.is_none()).render();
    text += &options_section(command);
    text += &without_preamble(closing_sections(program, command, parent).render());
    text
}

fn options_section(command: &Command) -> String {
    let mut bytes = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = Man::new(command.clone()).render_options_section(&mut bytes);
    without_preamble(String::from_utf8_lossy(&bytes).into_owned())
}

/// A part of a page that is rendered by itself begins with definitions that stand once at the head of a page.
fn without_preamble(part: String) -> String {
    match part.strip_prefix(&Roff::new().render()) {
        Some(rest) => rest.to_owned(),
        None => part,
    }
}

/// The title, and the sections before the options.
fn opening_sections(command: &Command, is_program: bool) -> Roff {
    let name = page_name(command);
    let mut page = Roff::new();
    title(&mut page, name, SECTION);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {}", summary(command)))]);
    page.control("SH", ["SYNOPSIS"]);
    page.text(synopsis(command));
    page.control("SH", ["DESCRIPTION"]);
    match is_program {
        true => page.text([roman(INTRODUCTION)]),
        false => page.text([roman(format!("{}.", about(command)))]),
    };
    page
}

/// The command with all its arguments, those that may be left out in brackets. That of clap_mangen has no values of
/// options.
fn synopsis(command: &Command) -> Vec<Inline> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let mut line = vec![bold(name)];
    let arguments = command.get_arguments().filter(|arg| !arg.is_hide_set());
    // `--help` is in the options of every page.
    let arguments = arguments.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()));
    let (positional, options): (Vec<_>, Vec<_>) = arguments.partition(|arg| arg.is_positional());
    for argument in options.into_iter().chain(positional) {
        let (opening, closing) = match argument.is_required_set() {
            true => (" ", ""),
            false => (" [", "]"),
        };
        line.push(roman(opening));
        let option = match (argument.get_short(), argument.get_long()) {
            (Some(short), _) => Some(format!("-{short}")),
            (None, Some(long)) => Some(format!("--{long}")),
            (None, None) => None,
        };
        let takes_value = argument.get_action().takes_values();
        if let Some(option) = &option {
            line.push(bold(option));
        }
        if takes_value {
            let separator = if option.is_some() { " " } else { "" };
            line.push(roman(separator));
            let values = argument.get_value_names().unwrap_or_default();
            line.push(italic(values.join(" ")));
        }
        line.push(roman(closing));
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND"), roman(" ...")]);
    }
    line
}

/// The sections after the options.
fn closing_sections(program: &Command, command: &Command, parent: Option<&Command>) -> Roff {
    let mut page = Roff::new();
    if command.has_subcommands() {
        page.control("SH", ["COMMANDS"]);
        for subcommand in visible_subcommands(command) {
            let text = format!("{}.", about(subcommand));
            entry(&mut page, reference(page_name(subcommand), SECTION), &text);
        }
    }
    let serves = parent.is_none() || command.get_name() == "run";
    if serves {
        page.control("SH", ["SIGNALS"]);
        for (signal, effect) in SIGNALS {
            entry(&mut page, vec![bold(*signal)], effect);
        }
    }
    page.control("SH", ["EXIT STATUS"]);
    for code in help_lines(program, "Exit codes").join(" ").split(", ") {
        let (code, meaning) = code.split_once(' ').unwrap_or((code, ""));
        entry(&mut page, vec![bold(code)], &capitalized(meaning));
    }
    let environment = environment(program, command, parent.is_none());
    if !environment.is_empty() {
        page.control("SH", ["ENVIRONMENT"]);
        for (name, meaning) in environment {
            entry(&mut page, vec![bold(name)], &format!("{meaning}."));
        }
    }
    let files = files(command, serves);
    if !files.is_empty() {
        page.control("SH", ["FILES"]);
        for (file, content) in files {
            entry(&mut page, vec![bold(file)], content);
        }
    }
    let mut examples = help_lines(command, "Example");
    examples.extend(help_lines(command, "Examples"));
    if !examples.is_empty() {
        page.control("SH", ["EXAMPLES"]);
        page.control("EX", []);
        for line in examples {
            page.text([roman(line)]);
        }
        page.control("EE", []);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text(see_also(program, command, parent));
    page
}

/// A tagged paragraph.
fn entry(page: &mut Roff, tag: Vec<Inline>, text: &str) {
    page.control("TP", []);
    page.text(tag);
    page.text([roman(text)]);
}

/// Variables that this command reads.
fn environment(program: &Command, command: &Command, is_program: bool) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let has_config = is_program || has(command, "config");
    if has_config || command.get_name() == "demo" {
        for line in help_lines(program, "Environment") {
            match (line.split_once(' '), variables.last_mut()) {
                (Some((name, meaning)), _) if !name.is_empty() => {
                    variables.push((name.to_owned(), meaning.trim_start().to_owned()));
                }
                // A description that continues.
                (_, Some((_, meaning))) => *meaning += &format!(" {}", line.trim_start()),
                (_, None) => {}
            }
        }
    }
    let mut add = |name: &str, meaning: &str| variables.push((name.to_owned(), meaning.to_owned()));
    if has_config {
        add(
            "RUNTIME_DIRECTORY, XDG_RUNTIME_DIR",
            "Where the pid file and the sockets are, see FILES in ballast-run(1)",
        );
    }
    if command.get_name() == "man" {
        add(
            "SOURCE_DATE_EPOCH",
            "The date of the pages, in seconds since 1970; without it that of the release",
        );
    }
    variables
}

/// Files that this command uses.
fn files(command: &Command, serves: bool) -> Vec<(&'static str, &'static str)> {
    let mut files = Vec::new();
    if serves || has(command, "config") {
        files.push((
            DEFAULT_CONFIG,
            "The configuration, unless another is named; see ballast.yaml(5).",
        ));
    }
    if serves || has(command, "socket") {
        files.push((
            "/run/ballast/ballast.sock",
            "The control socket of the running process, which only its owner and root may use.",
        ));
    }
    if serves {
        files.extend([
            ("/run/ballast/ballast.pid", "The id of the serving process."),
            (
                "/run/ballast/ballast.upgrade",
                "The socket over which a successor gets the listeners. With another configuration file these three are named \
                 after it and a hash of its path. They are in the first of RUNTIME_DIRECTORY, /run/ballast, \
                 XDG_RUNTIME_DIR/ballast, /run/user/UID/ballast and /dev/shm/ballast-UID that belongs to the user \
                 alone and can be written; server.pid_file, server.control_socket and server.upgrade_socket name others.",
            ),
            (
                "/var/lib/ballast/hosts, /var/lib/ballast/acme",
                "What sources of hosts told last, and certificates that were ordered by ACME with their keys.",
            ),
        ]);
    }
    files
}

fn see_also(program: &Command, command: &Command, parent: Option<&Command>) -> Vec<Inline> {
    let mut pages: Vec<&str> = match parent {
        // Of the program the commands stand above already.
        None => visible_subcommands(command).map(page_name).collect(),
        Some(parent) => {
            let siblings = visible_subcommands(parent).map(page_name);
            // The program's own page has its commands.
            let relatives = siblings.filter(|_| page_name(parent) != page_name(program));
            let relatives = relatives.chain(visible_subcommands(command).map(page_name));
            let others = relatives.filter(|name| *name != page_name(command));
            [page_name(program)].into_iter().chain(others).collect()
        }
    };
    pages.sort_unstable();
    let commands = pages.into_iter().map(|page| reference(page, SECTION));
    let references = commands.chain([reference("ballast.yaml", "5")]);
    let mut line = Vec::new();
    for reference in references {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend(reference);
    }
    line
}

fn reference(page: &str, section: &str) -> Vec<Inline> {
    vec![bold(page), roman(format!("({section})"))]
}

/// The lines below a heading in the text after the options, without their indentation.
fn help_lines(command: &Command, heading: &str) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    let is_other = |line: &&str| line.strip_suffix(':') != Some(heading);
    let below = help.lines().skip_while(is_other).skip(1);
    let lines = below.map_while(|line| line.strip_prefix("  "));
    lines.map(str::to_owned).collect()
}

/// The name of a command's page, such as `ballast-host-add`.
fn page_name(command: &Command) -> &str {
    command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
}

fn visible_subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set())
}

fn has(command: &Command, argument: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == argument)
}

/// What a command does; clap leaves out the last full stop.
fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    about.unwrap_or_default().trim_end_matches('.').to_owned()
}

/// The beginning of [`about`], as apropos(1) lists it: without a capital, up to where the details begin.
fn summary(command: &Command) -> String {
    let about = about(command);
    let end = [". ", ": ", "; "]
        .iter()
        .filter_map(|mark| about.find(mark));
    let mut short = &about[..end.min().unwrap_or(about.len())];
    if short.len() > MAX_SUMMARY
        && let Some((clause, _)) = short.split_once(", ")
    {
        short = clause;
    }
    let mut letters = short.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// A phrase as a sentence.
fn capitalized(phrase: &str) -> String {
    let mut letters = phrase.chars();
    let first = letters.next().map(char::to_uppercase);
    let text: String = first.into_iter().flatten().chain(letters).collect();
    format!("{text}.")
}
