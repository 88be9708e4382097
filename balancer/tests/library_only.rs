//! The library of algorithms must have neither Pingora nor Tokio in its tree.

use std::process::Command;

#[test]
fn the_library_has_neither_pingora_nor_tokio_in_its_tree() {
    let banned = |name: &&String| name.starts_with("pingora") || name.starts_with("tokio");
    let library = packages("ballast-balancer");
    assert!(library.iter().any(|name| name == "ballast-balancer"));
    assert_eq!(library.iter().find(banned), None);
    // The same check finds them in the proxy's, so it works.
    let everything = packages("ballast-lb");
    assert!(everything.iter().any(|name| name == "pingora"));
    assert!(everything.iter().any(|name| name == "tokio"));
}

/// The packages that a normal build of `package` links.
fn packages(package: &str) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = "tree --offline --locked -e normal --prefix none -p";
    let output = Command::new(cargo)
        .args(arguments.split(' '))
        .arg(package)
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
