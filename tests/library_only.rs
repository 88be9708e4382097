//! The library without its proxy: `default-features = false` must include neither Pingora nor Tokio.

use std::process::Command;

#[test]
fn without_default_features_there_is_neither_pingora_nor_tokio() {
    let banned = |name: &&String| name.starts_with("pingora") || name.starts_with("tokio");
    let library = packages(&["--no-default-features"]);
    assert!(library.iter().any(|name| name == "ballast"));
    assert_eq!(library.iter().find(banned), None);
    // With the default features the same check finds them, so the check itself works.
    let everything = packages(&[]);
    assert!(everything.iter().any(|name| name == "pingora"));
    assert!(everything.iter().any(|name| name == "tokio"));
}

/// The packages that a normal build of the crate links.
fn packages(options: &[&str]) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--locked",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .args(options)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}
