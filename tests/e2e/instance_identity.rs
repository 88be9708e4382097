//! A running instance is identified by the path of its file as given on the command line. If a link on this path
//! changes, the identity stays.

use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{
    Authority, Backend, Ballast, Client, Finished, LISTEN, SOON, Setup, finish, get, run,
    wait_until,
};

/// Replaces the target of a link in one step, as Kubernetes and deployment tools do.
fn replace_link(link: &Path, target: &str) {
    let fresh = link.with_file_name("fresh");
    symlink(target, &fresh).expect("the folder can be written");
    std::fs::rename(&fresh, link).expect("the folder can be written");
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).expect("the folder can be written");
    std::fs::write(folder.join(name), text).expect("the folder can be written");
}

/// The process ID in the pid file.
fn serving(ballast: &Ballast) -> Pid {
    let text = std::fs::read_to_string(ballast.file_with_suffix(".pid")).expect("the file exists");
    Pid::from_raw(text.trim().parse().expect("a number"))
}

/// Runs a command for the file at `path`, in the folder of the instance.
fn run_for(ballast: &Ballast, path: &Path, args: &[&str]) -> Finished {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ballast"));
    command
        .args(args)
        .arg("-c")
        .arg(path)
        .current_dir(ballast.folder())
        .env("RUNTIME_DIRECTORY", ballast.path("run"));
    finish(command)
}

/// Asserts that every command finds a process whose file is reached by `name`, after `link` leads to another folder.
fn assert_found(link: &str, folders: [&str; 2], name: &str, direct: bool) {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    // The first file stays in its place until the links exist.
    let ballast = Ballast::start_with_path(&Setup::of(&[&a]).yaml(), |folder| {
        let yaml = std::fs::read_to_string(folder.join("ballast.yaml")).expect("the file exists");
        write(&folder.join(folders[0]), "ballast.yaml", &yaml);
        let other = yaml.replace(&a.address().to_string(), &b.address().to_string());
        write(&folder.join(folders[1]), "ballast.yaml", &other);
        symlink(folders[0], folder.join(link)).expect("the folder can be written");
        if direct {
            std::fs::remove_file(folder.join("ballast.yaml")).expect("the file exists");
            symlink(format!("{link}/ballast.yaml"), folder.join("ballast.yaml")).expect("written");
        }
        folder.join(name)
    });
    ballast.file_with_suffix(".sock");
    let file = ballast.path(name);
    let link = ballast.path(link);
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    replace_link(&link, folders[1]);
    let end = run_for(&ballast, &file, &["check"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.contains("would reload in place"), "{end:?}");
    let end = run_for(&ballast, &file, &["reload"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(get(ballast.address(), "/").backend(), "b");
    let host = b.address().to_string();
    for args in [&["status"][..], &["drain", &host], &["undrain", &host]] {
        let end = run_for(&ballast, &file, args);
        assert_eq!(end.code, Some(0), "{args:?}: {end:?}");
    }
    // A successor process reads the new target, and the commands find it as well.
    replace_link(&link, folders[0]);
    let before = serving(&ballast);
    kill(before, Signal::SIGQUIT).expect("the process runs");
    wait_until(SOON, "the successor serves", || serving(&ballast) != before);
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    wait_until(SOON, "the successor is found", || {
        let end = run_for(&ballast, &file, &["status", "--json"]);
        end.stdout
            .contains(&format!("\"pid\":{}", serving(&ballast)))
    });
    // A second instance with this file is refused. The target of the link counts as the file of another instance.
    let end = run_for(&ballast, &file, &["run"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(
        end.stderr.contains("another ballast runs with this file"),
        "{end:?}"
    );
    let real = ballast.path(folders[0]).join("ballast.yaml");
    let end = run_for(&ballast, &real, &["status"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    kill(serving(&ballast), Signal::SIGTERM).expect("the process runs");
}

#[test]
fn a_config_map_link_may_change() {
    assert_found("..data", ["..2026_1", "..2026_2"], "ballast.yaml", true);
}

#[test]
fn a_link_to_the_current_release_may_change() {
    assert_found(
        "current",
        ["releases/1", "releases/2"],
        "current/ballast.yaml",
        false,
    );
}

#[test]
fn all_spellings_of_a_path_identify_one_instance() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    ballast.file_with_suffix(".sock");
    std::fs::create_dir(ballast.path("sub")).expect("the folder can be written");
    for spelling in [
        "ballast.yaml",
        "./ballast.yaml",
        "sub/../ballast.yaml",
        ".//ballast.yaml",
    ] {
        let end = run_for(&ballast, Path::new(spelling), &["status"]);
        assert_eq!(end.code, Some(0), "{spelling}: {end:?}");
        let end = run_for(&ballast, Path::new(spelling), &["run"]);
        assert!(
            end.stderr.contains("another ballast runs"),
            "{spelling}: {end:?}"
        );
    }
}

#[test]
fn relative_paths_start_at_the_directory_in_the_given_path() {
    let backend = Backend::start_new("a");
    let [first, second] = ["first", "second"].map(Authority::new);
    let tls = "tls: { certificates: [{ certificate: own.crt, key: own.key }] }";
    let yaml = Setup::of(&[&backend])
        .top(&format!("listeners: [{{ address: \"{LISTEN}\", {tls} }}]"))
        .yaml();
    let ballast = Ballast::start_with_path(&yaml, |folder| {
        let yaml = std::fs::read_to_string(folder.join("ballast.yaml")).expect("the file exists");
        for (release, authority) in [("1", &first), ("2", &second)] {
            write(&folder.join(release), "ballast.yaml", &yaml);
            authority
                .issue(&["localhost"])
                .write(&folder.join(release), "own");
        }
        symlink("1", folder.join("current")).expect("the folder can be written");
        folder.join("current/ballast.yaml")
    });
    ballast.file_with_suffix(".sock");
    let shows = |authority: &Authority| {
        let client = Client::tls(ballast.address(), "localhost", authority.client());
        client.is_ok_and(|mut client| {
            let response = client.request("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            response.is_ok_and(|response| response.status == 200)
        })
    };
    assert!(shows(&first) && !shows(&second));
    replace_link(&ballast.path("current"), "2");
    let file = ballast.path("current/ballast.yaml");
    let end = run_for(&ballast, &file, &["reload"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(shows(&second) && !shows(&first));
}

#[test]
fn check_without_a_process_reports_that_and_checks_only_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let yaml = "listeners: [\"127.0.0.1:8080\"]\npools: { web: { hosts: [\"127.0.0.1:8081\"] } }\n";
    write(folder.path(), "a.yaml", yaml);
    let file = folder.path().join("a.yaml").display().to_string();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ballast"));
    command
        .args(["check", "-c", &file])
        .env("RUNTIME_DIRECTORY", folder.path());
    let end = finish(command);
    assert_eq!(end.code, Some(0), "{end:?}");
    let mut lines = end.stdout.lines();
    assert_eq!(lines.next(), Some(&*format!("{file}: ok (1 pool, 1 host)")));
    let line = lines.next().expect("a line about the missing preview");
    for part in ["no preview of a reload: ", "/a-", ".sock", "no such socket"] {
        assert!(line.contains(part), "{line}");
    }
    let socket = folder.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("the folder can be written"));
    let socket = socket.display().to_string();
    let end = run(&["check", "-c", &file, "--socket", &socket]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let line = end
        .stdout
        .lines()
        .nth(1)
        .expect("a line about the missing preview");
    assert!(line.contains(&socket) && line.contains("refused"), "{line}");
    write(folder.path(), "a.yaml", &format!("{yaml}nonsense: 1\n"));
    assert_eq!(run(&["check", "-c", &file]).code, Some(2));
}
