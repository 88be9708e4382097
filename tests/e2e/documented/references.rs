//! Blocks, links, tables and the map of the code are about what there is.

use std::fs;

use ballast_balancer::ALGORITHMS;

use super::markdown::{Document, documents, root};

/// The languages of blocks and what tests them.
#[test]
fn every_block_says_what_it_is() {
    for document in documents() {
        for block in document.blocks() {
            let is_tested = match block.language {
                // Output and pictures of text.
                "text" => true,
                "sh" | "yaml" => true,
                // migration_guide.rs
                "nginx" | "haproxy" => document.name == "docs/migrating-examples.md",
                // A manifest of a project of the reader's, which names a package that there is.
                "toml" => block.text.contains("ballast-balancer"),
                language if language.starts_with("rust") => is_doctest(&document),
                _ => false,
            };
            assert!(
                is_tested,
                "{}: nothing tests a block of `{}` here",
                block.place, block.language
            );
        }
        let commands = ["    cargo ", "    ballast ", "    $ ", "    bash "];
        let indented = document
            .text
            .lines()
            .find(|line| commands.iter().any(|command| line.starts_with(command)));
        let is_fenced = |line: &str| {
            document
                .blocks()
                .iter()
                .any(|block| block.text.lines().any(|other| other == line))
        };
        assert!(
            indented.is_none_or(is_fenced),
            "{}: a command without a fence: {indented:?}",
            document.name
        );
    }
}

/// Whether the library's doctests include a document.
fn is_doctest(document: &Document) -> bool {
    let library = fs::read_to_string(root().join("balancer/src/lib.rs"));
    let name = document.name.rsplit('/').next().unwrap_or_default();
    library.is_ok_and(|text| text.contains(&format!("{name}\")")))
}

#[test]
fn the_readme_lists_every_algorithm() {
    let readme = Document::named("README.md");
    for info in ALGORITHMS {
        let row = format!("\n| `{}`", info.name);
        assert!(readme.text.contains(&row), "no row for {}", info.name);
    }
}

/// Links and pictures lead to files of the repository, and headings that they name exist.
#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let folder = root().join(&document.name);
        let folder = folder.parent().expect("it is in a folder");
        for rest in document.text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if target.starts_with("http") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = folder.join(path);
            assert!(path.exists(), "{}: {target}", document.name);
            let text = || fs::read_to_string(&path).unwrap_or_default().to_lowercase();
            let title = heading.replace('-', " ");
            assert!(
                heading.is_empty() || text().contains(&format!("# {title}\n")),
                "{}: {target}",
                document.name
            );
        }
    }
}

/// The map names what there is, and every room of the source.
#[test]
fn the_map_of_the_code_is_complete() {
    let architecture = Document::named("docs/architecture.md");
    let blocks = architecture.blocks();
    let map = &blocks
        .iter()
        .find(|block| block.language == "text")
        .expect("a map")
        .text;
    for word in map.split([' ', ';', ':', ',', '\n']) {
        let is_path = ["src/", "tests/", "benches/", "balancer/"]
            .iter()
            .any(|top| word.starts_with(top));
        assert!(!is_path || root().join(word).exists(), "{word}");
    }
    for entry in fs::read_dir(root().join("src")).expect("the source") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_named = [format!("src/{name}/"), format!("src/{name}.rs")]
            .iter()
            .any(|path| map.contains(path));
        assert!(
            !entry.path().is_dir() || is_named,
            "src/{name} is not in the map"
        );
    }
}
