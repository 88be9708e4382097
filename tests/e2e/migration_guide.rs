//! docs/migrating.md: nginx accepts what the guide shows of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Authority, file, peer};

/// The blocks of a Markdown text that are configurations of nginx.
fn nginx_blocks(markdown: &str) -> Vec<&str> {
    let blocks = markdown.split("```nginx\n").skip(1);
    blocks
        .map(|rest| {
            rest.split_once("```")
                .expect("each block of the guide has an end")
                .0
        })
        .collect()
}

/// A whole configuration around a block: sockets in `folder` instead of ports, and the host of a name that the block only
/// uses.
fn whole(block: &str, folder: &str) -> String {
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

#[test]
fn nginx_accepts_the_configurations_of_the_guide() {
    let Some(nginx) = peer("nginx") else { return };
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrating.md");
    let guide = fs::read_to_string(guide).expect("the guide can be read");
    let blocks = nginx_blocks(&guide);
    assert!(blocks.len() > 10, "{}", blocks.len());
    let authority = Authority::new("authority");
    for block in blocks {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for site in ["example.com", "example.org"] {
            let (chain, _) = authority.issue(&[site]).write(folder.path(), site);
            fs::rename(chain, folder.path().join(format!("{site}.pem"))).expect("renamed");
        }
        let text = whole(block, &folder.path().display().to_string());
        let config = file(folder.path(), "nginx.conf", &text);
        let output = Command::new(&nginx)
            .args(["-t", "-q", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(config)
            .output()
            .expect("nginx can be started");
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{problems}\n{block}");
    }
}
