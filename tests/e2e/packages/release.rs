//! The files of a release, the container image and the configuration that a package brings.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{repository, succeed};
use crate::support::{peer, run};

fn text(path: &str) -> String {
    fs::read_to_string(repository(path)).expect("the file is in the repository")
}

#[test]
fn the_configuration_of_the_package_is_valid_and_listens_on_loopback_only() {
    let path = repository("packaging/deb/ballast.yaml");
    let end = run(&["check", "-c", &path.display().to_string()]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let yaml: serde_yaml::Value =
        serde_yaml::from_str(&text("packaging/deb/ballast.yaml")).expect("YAML");
    assert_eq!(yaml["listeners"][0], "127.0.0.1:8080");
    assert!(yaml.get("admin").is_none());
}

#[test]
fn a_release_has_every_file_and_its_checksum() {
    for program in ["cargo-deb", "python3", "strip"] {
        if peer(program).is_none() {
            return;
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let binary = env!("CARGO_BIN_EXE_ballast");
    succeed(
        Command::new(repository("packaging/release"))
            .args(["--binary", binary])
            .arg(folder.path())
            .env("BALLAST_FAST_COMPRESSION", "1"),
    );
    let sums = fs::read_to_string(folder.path().join("SHA256SUMS")).expect("it is made");
    let endings = [".deb", "-linux-gnu.tar.gz", ".cdx.json"];
    for ending in endings {
        assert!(sums.lines().any(|line| line.ends_with(ending)), "{sums}");
    }
    let mut check = Command::new("sha256sum");
    succeed(check.args(["--check", "SHA256SUMS"]).current_dir(&folder));

    let archive = sums.lines().find_map(|line| {
        let name = line.split("  ").nth(1)?;
        name.ends_with(".tar.gz").then_some(name)
    });
    let archive = archive.expect("it was found above");
    let mut list = Command::new("tar");
    let listed = succeed(list.args(["-tzf", archive]).current_dir(&folder));
    for name in [
        "/ballast\n",
        "/man/ballast.1\n",
        "/man/ballast.yaml.5\n",
        "/completions/_ballast\n",
        "/examples/minimal.yaml\n",
        "/LICENSE\n",
        "/THIRD-PARTY-LICENSES\n",
    ] {
        assert!(listed.contains(name), "no {name} in {listed}");
    }
    is_a_bill_of_materials(folder.path());
}

/// The bill lists the crates that are compiled into the binary, with checksums, and not those of tests and builds.
fn is_a_bill_of_materials(folder: &Path) {
    let version = env!("CARGO_PKG_VERSION");
    let bill = fs::read_to_string(folder.join(format!("ballast-{version}.cdx.json")));
    let bill: Value = serde_json::from_str(&bill.expect("it is made")).expect("JSON");
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["metadata"]["component"]["name"], "ballast-lb");
    assert_eq!(bill["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    let components = bill["components"].as_array().expect("a list");
    let name = |component: &Value| component["name"].as_str().map(str::to_owned);
    let names = BTreeSet::from_iter(components.iter().filter_map(name));
    for shipped in ["ballast-balancer", "pingora", "rustls", "tokio"] {
        assert!(names.contains(shipped), "no {shipped} in {names:?}");
    }
    for absent in ["criterion", "proptest", "tempfile", "cmake", "cc"] {
        assert!(!names.contains(absent), "{absent} is not shipped");
    }
    for component in components {
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "{component}"
        );
        let hash = component["hashes"][0]["content"]
            .as_str()
            .unwrap_or_default();
        assert!(
            component["name"] == "ballast-balancer" || hash.len() == 64,
            "{component}"
        );
    }
    // Every edge leads to a component.
    let references = BTreeSet::from_iter(components.iter().filter_map(|c| c["bom-ref"].as_str()));
    for edge in bill["dependencies"].as_array().expect("a list") {
        for to in edge["dependsOn"].as_array().expect("a list") {
            assert!(references.contains(to.as_str().unwrap_or_default()), "{to}");
        }
    }
}

/// The instructions of a Containerfile, continued lines joined, with their arguments.
fn instructions(containerfile: &str) -> Vec<(String, String)> {
    let joined = containerfile.replace("\\\n", " ");
    let lines = joined
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = lines.filter_map(|line| line.split_once(' '));
    split
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect()
}

#[test]
fn the_image_is_not_root_checks_its_health_and_copies_files_that_exist() {
    let instructions = instructions(&text("Containerfile"));
    let of = |wanted: &str| {
        let found = instructions.iter().rev().find(|(name, _)| name == wanted);
        found.map(|(_, rest)| rest.clone()).unwrap_or_default()
    };
    let user = of("USER");
    let user: u32 = user
        .split(':')
        .next()
        .and_then(|user| user.parse().ok())
        .expect("a number");
    assert_ne!(user, 0);
    assert_eq!(of("STOPSIGNAL"), "SIGTERM");
    assert_eq!(of("ENTRYPOINT"), r#"["/usr/bin/ballast"]"#);

    // The commands are known to the binary.
    let health = of("HEALTHCHECK");
    let (_, health) = health.split_once("CMD ").expect("a command");
    for command in [health, &of("CMD")] {
        let words: Vec<String> = serde_json::from_str(command).expect("a list in JSON");
        let command = words.last().expect("it is not empty");
        assert_eq!(run(&[command, "--help"]).code, Some(0), "{command}");
    }
    // The base of the last stage.
    assert!(of("FROM").contains("distroless/static"));

    // What the last stage takes of the first is made by commands of its own.
    for (_, rest) in instructions.iter().filter(|(name, _)| name == "COPY") {
        let words = Vec::from_iter(rest.split(' ').filter(|word| !word.starts_with("--")));
        let (_, sources) = words.split_last().expect("it is not empty");
        let from_build = rest.contains("--from=");
        for source in sources {
            let source = match from_build {
                false => *source,
                true if source.starts_with("/stage/") => continue,
                true => source
                    .strip_prefix("/build/")
                    .expect("a file of the repository"),
            };
            assert!(repository(source).exists(), "{source}");
        }
    }
    for (_, rest) in instructions.iter().filter(|(name, _)| name == "RUN") {
        let scripts = rest
            .split([' ', '('])
            .filter(|word| word.starts_with("packaging/"));
        scripts.for_each(|script| assert!(repository(script).exists(), "{script}"));
    }
}
