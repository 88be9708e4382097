//! The configuration file itself: reading it, its encoding, and names that the system resolves.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use ballast::config::Config;
use tempfile::TempDir;

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub(crate) fn write(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).expect("a file");
    path
}

/// The error lines about a file, without its name at the start.
pub(crate) fn errors(file: &Path) -> Vec<String> {
    let errors = match Config::load(file) {
        Ok(config) => panic!("accepted: {config:#?}"),
        Err(errors) => errors,
    };
    let errors: &dyn Error = &errors;
    let prefix = file.display().to_string();
    let lines = errors.to_string();
    let stripped = lines
        .lines()
        .map(|line| line.strip_prefix(&prefix).expect("the file's name"));
    stripped.map(str::to_owned).collect()
}

#[test]
fn an_unreadable_file_is_one_error_line() {
    let directory = directory();
    assert_eq!(
        errors(&directory.path().join("none.yaml")),
        [": cannot read the configuration: there is no such file"]
    );
    let lines = errors(directory.path());
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with(": cannot read the configuration: "),
        "{lines:#?}"
    );
    let large = write(&directory, "large.yaml", vec![b'#'; (1 << 20) + 1]);
    assert_eq!(
        errors(&large),
        [": cannot read the configuration: larger than 1 MiB"]
    );
    let garbage = Vec::from_iter(
        (0..10 << 20).map(|byte: u32| (byte.wrapping_mul(2_654_435_761) >> 24) as u8),
    );
    let garbage = write(&directory, "garbage.yaml", garbage);
    assert_eq!(
        errors(&garbage),
        [": cannot read the configuration: larger than 1 MiB"]
    );
    let latin = write(&directory, "latin.yaml", b"a: 1\nb: \xe4\n");
    assert_eq!(errors(&latin), [": line 2 is not UTF-8 text"]);
}

#[test]
fn names_are_resolved_once_by_the_system() {
    let directory = directory();
    let file = write(
        &directory,
        "b.yaml",
        "listeners: [\"127.0.0.1:80\"]\npools: { web: { hosts: [{ address: \"localhost:81\", resolve: once }] } }\n",
    );
    let config = Config::load(&file).expect("a configuration");
    let host = &config.pools[0].members[0];
    let address = host.address.as_inet().expect("an IP address");
    assert!(address.ip().is_loopback());
    assert_eq!(address.port(), 81);
}

#[test]
fn a_byte_order_mark_is_ignored() {
    let directory = directory();
    let text = "listeners: [\"127.0.0.1:80\"]\nadmin: { address: \"127.0.0.1:81\", token_file: token }\n\
                pools: { web: { hosts: [\"127.0.0.1:1\"] } }\n";
    let token = write(&directory, "token", "\u{feff}0123456789abcdef\r\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&token, mode).expect("permissions of our own file");
    let file = write(&directory, "b.yaml", format!("\u{feff}{text}"));
    let config = Config::load(&file).expect("a configuration");
    let token = config.admin.token_file.expect("a token");
    assert_eq!(token.bytes, b"0123456789abcdef");
    // Lines and columns are counted without the byte order mark.
    let file = write(
        &directory,
        "b.yaml",
        format!("\u{feff}{}", text.replace(":80", ":0")),
    );
    assert!(errors(&file).concat().starts_with(":1:13: listeners[0]: "));
    let wide = Vec::from_iter(
        format!("\u{feff}{text}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes),
    );
    let file = write(&directory, "b.yaml", wide);
    assert_eq!(
        errors(&file),
        [": the file is UTF-16 text; save it as UTF-8"]
    );
}
