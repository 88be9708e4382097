//! Lists of hosts outside the configuration: files, and values of services that know hosts.

use std::path::{Path, PathBuf};

use super::document::{Content, Node, Position};
use super::environment::System;
use super::errors::{ConfigErrors, Problem};
use super::hints::quote;
use super::host_entry::{HostEntry, HostTarget, entries};
use super::schema::{Kind, Reader};
use super::yaml::{self, NodeBudget};

/// The hosts in a file: a list of YAML or JSON as under `hosts`, alone or under that key, or lines with a `host:port` each,
/// where `#` begins a comment.
///
/// # Errors
/// Everything that is wrong with it. Names are wrong as well: whoever tells hosts knows their addresses.
pub(crate) fn read_host_list(text: &str, file: &Path) -> Result<Vec<HostEntry>, ConfigErrors> {
    let files = vec![file.to_owned()];
    let root = match is_lines(text) {
        true => lines(text),
        false => {
            let document = yaml::parse(text, 0, &mut NodeBudget::default());
            let document =
                document.map_err(|problem| ConfigErrors::new(files.clone(), vec![problem]))?;
            if !document.problems.is_empty() {
                return Err(ConfigErrors::new(files, document.problems));
            }
            match (document.root.get("hosts"), document.root.entries()) {
                (Some(hosts), [_]) => hosts.clone(),
                _ => document.root,
            }
        }
    };
    if let Content::Map(_) = root.content {
        let problem = Problem::at(root.position, "expected a list of hosts, found a map");
        return Err(ConfigErrors::new(files, vec![problem]));
    }
    read(&root, files)
}

/// One host: a `host:port`, or a map of YAML or JSON as under `hosts`.
///
/// # Errors
/// What is wrong with it, in one line.
pub(crate) fn read_host(text: &str) -> Result<HostEntry, String> {
    let text = text.trim();
    let root = match text.starts_with(['{', '"']) {
        true => {
            yaml::parse(text, 0, &mut NodeBudget::default())
                .map_err(|problem| problem.message)?
                .root
        }
        false => Node {
            position: Position::START,
            content: Content::scalar(text, false),
        },
    };
    let list = Node {
        position: root.position,
        content: Content::List(vec![root]),
    };
    let read = read(&list, vec![PathBuf::from("value")]);
    let mut hosts = read.map_err(|errors| errors.to_string().replace('\n', "; "))?;
    hosts.pop().ok_or_else(|| "there is no host".to_owned())
}

fn read(root: &Node, files: Vec<PathBuf>) -> Result<Vec<HostEntry>, ConfigErrors> {
    let mut reader = Reader::new(&files, &System, Vec::new());
    let hosts = entries().read(root, &mut reader);
    for (index, entry) in hosts.iter().flatten().enumerate() {
        let (HostTarget::Name { text, .. } | HostTarget::Srv(text)) = &entry.target else {
            continue;
        };
        let element = root.elements().get(index).unwrap_or(root);
        let problem = format!(
            "{} is not an address; names are resolved only in the configuration itself",
            quote(text)
        );
        reader.in_element(index, |reader| reader.problem(element, problem));
    }
    let problems = reader.into_problems();
    match hosts {
        Some(hosts) if problems.is_empty() => Ok(hosts),
        _ => Err(ConfigErrors::new(files, problems)),
    }
}

/// Whether a text is lines with a host each, and not YAML.
fn is_lines(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    // Without a colon at its end no line begins a map.
    first.is_some_and(|first| {
        !first.starts_with(['-', '[', '{', '"']) && !first.ends_with(':') && !first.contains(": ")
    })
}

fn lines(text: &str) -> Node {
    let lines = (1..).zip(text.lines());
    let hosts = lines.filter_map(|(number, line)| {
        let host = line.split('#').next().unwrap_or_default();
        let column = host.len() - host.trim_start().len() + 1;
        (!host.trim().is_empty()).then(|| Node {
            position: Position {
                file: 0,
                line: number,
                column,
            },
            content: Content::scalar(host.trim(), false),
        })
    });
    Node {
        position: Position::START,
        content: Content::List(hosts.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, u32)>, String> {
        let read = read_host_list(text, Path::new("web.hosts"));
        let hosts = read.map_err(|errors| errors.to_string())?;
        let hosts = hosts.iter().map(|entry| {
            let host = entry.host().expect("an address");
            (host.id.to_string(), host.weight)
        });
        Ok(hosts.collect())
    }

    #[test]
    fn lists_are_lines_yaml_or_json() {
        let both = vec![("127.0.0.1:1".to_owned(), 1), ("[::1]:2".to_owned(), 3)];
        for text in [
            "- 127.0.0.1:1\n- { address: \"[::1]:2\", weight: 3 }\n",
            "# ours\nhosts:\n- 127.0.0.1:1\n- address: \"[::1]:2\"\n  weight: 3\n",
            "[\"127.0.0.1:1\", {\"address\": \"[::1]:2\", \"weight\": 3}]",
            "{\"hosts\": [\"127.0.0.1:1\", {\"address\": \"[::1]:2\", \"weight\": 3}]}",
        ] {
            assert_eq!(read(text), Ok(both.clone()), "{text}");
        }
        let lines = "\n# ours\n127.0.0.1:1 # one\n\n  [::1]:2\n";
        let hosts = vec![("127.0.0.1:1".to_owned(), 1), ("[::1]:2".to_owned(), 1)];
        assert_eq!(read(lines), Ok(hosts));
        for empty in ["", "\n", "# none\n", "[]", "hosts: []", "hosts:"] {
            assert_eq!(read(empty), Ok(Vec::new()), "{empty:?}");
        }
    }

    #[test]
    fn problems_have_positions_and_spoil_the_whole_list() {
        for (text, problem) in [
            ("127.0.0.1:1\n  127.0.0.1\n", "web.hosts:2:3: [1]: "),
            (
                "- 127.0.0.1:1\n- app:80\n",
                "web.hosts:2:3: [1]: `app:80` is not an address",
            ),
            (
                "- 127.0.0.1:1\n- 127.0.0.1:1\n",
                "web.hosts:2:3: [1]: `127.0.0.1:1` is hosts[0]",
            ),
            (
                "- { address: 127.0.0.1:1, wieght: 1 }",
                "did you mean `weight`",
            ),
            ("- [", "web.hosts:2:1: "),
            ("a: 1\nb: 2", "expected a list of hosts, found a map"),
            ("<html>\n<p>502 Bad Gateway</p>", "web.hosts:1:1: [0]: "),
        ] {
            let found = read(text).expect_err(text);
            assert!(found.contains(problem), "{text:?}: {found}");
        }
    }

    #[test]
    fn a_single_host_is_an_address_or_a_map() {
        let id =
            |text| read_host(text).map(|entry| entry.host().expect("an address").id.to_string());
        assert_eq!(id(" 127.0.0.1:1\n").as_deref(), Ok("127.0.0.1:1"));
        assert_eq!(
            id("{\"address\":\"127.0.0.1:1\"}").as_deref(),
            Ok("127.0.0.1:1")
        );
        for wrong in [
            "",
            "x",
            "app:80",
            "{",
            "{}",
            "[]",
            "{\"address\":1}",
            "\u{0}",
        ] {
            assert!(read_host(wrong).is_err(), "{wrong:?}");
        }
    }
}
