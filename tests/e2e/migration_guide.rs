//! docs/migrating-examples.md: nginx and HAProxy accept what the guide shows of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Authority, file, peer};

/// The blocks of the guide in one language.
fn blocks(language: &str) -> Vec<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrating-examples.md");
    let guide = fs::read_to_string(guide).expect("the guide can be read");
    let fence = format!("```{language}\n");
    let blocks = guide.split(&fence).skip(1);
    let blocks = blocks.map(|rest| {
        let end = rest.split_once("```");
        end.expect("each block of the guide has an end")
            .0
            .to_owned()
    });
    let blocks = Vec::from_iter(blocks);
    assert!(blocks.len() >= 10, "{language}: {}", blocks.len());
    blocks
}

/// A folder with the certificates that the guide names, each with its key in the same file and in one of its own.
fn folder_with_certificates(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for site in ["example.com", "example.org"] {
        let (chain, key) = authority.issue(&[site]).write(folder.path(), site);
        let read = |path: &PathBuf| fs::read_to_string(path).expect("it was written");
        let both = read(&chain) + &read(&key);
        file(folder.path(), &format!("{site}.pem"), &both);
    }
    folder
}

/// A whole configuration of nginx around a block: sockets in `folder` instead of ports, and the host of a name that the
/// block only uses.
fn whole_nginx(block: &str, folder: &str) -> String {
    let mut block = block
        .replace("listen 80", &format!("listen unix:{folder}/80"))
        .replace("listen 443", &format!("listen unix:{folder}/443"))
        .replace("/etc/nginx", folder)
        // A directive since nginx 1.25.1.
        .replace("http2 on;", "");
    if block.contains("http://web") && !block.contains("upstream web") {
        block.insert_str(0, "upstream web { server 127.0.0.1:8081; }\n");
    }
    format!(
        "pid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{block}}}\n"
    )
}

#[track_caller]
fn assert_accepted(command: &mut Command, block: &str) {
    let output = command.output().expect("the program can be started");
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problems}\n{block}");
}

#[test]
fn nginx_accepts_the_configurations_of_the_guide() {
    let Some(nginx) = peer("nginx") else { return };
    let authority = Authority::new("authority");
    for block in blocks("nginx") {
        let folder = folder_with_certificates(&authority);
        let text = whole_nginx(&block, &folder.path().display().to_string());
        let config = file(folder.path(), "nginx.conf", &text);
        let mut command = Command::new(&nginx);
        command.args(["-t", "-q", "-p"]).arg(folder.path());
        assert_accepted(command.arg("-c").arg(config), &block);
    }
}

#[test]
fn haproxy_accepts_the_configurations_of_the_guide() {
    let Some(haproxy) = peer("haproxy") else {
        return;
    };
    let authority = Authority::new("authority");
    let folder = folder_with_certificates(&authority);
    for block in blocks("haproxy") {
        // A warning is a fault of the guide.
        let text = format!(
            "global\n    zero-warning\n    tune.ssl.default-dh-param 2048\ndefaults\n    mode http\n    \
             timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n{}",
            block.replace("/etc/haproxy", &folder.path().display().to_string())
        );
        let config = file(folder.path(), "haproxy.cfg", &text);
        let mut command = Command::new(&haproxy);
        assert_accepted(command.args(["-c", "-q", "-f"]).arg(config), &block);
    }
}
