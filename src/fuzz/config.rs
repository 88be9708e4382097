//! Fuzz targets: the configuration file, and PEM files.

use std::collections::BTreeSet;
use std::env::VarError;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::config::{Config, ConfigErrors, Environment, HostEntry, Route};
use crate::pool::HostRegistry;
use crate::proxy::ActiveConfig;
use ballast_balancer::MAX_WEIGHT;

const FILE: &str = "b.yaml";
/// A line that begins like this ends a file; the rest of it is the name of the next one.
const NEXT_FILE: &str = "\n#file ";
/// The name of a file and a message are cut off after 600 characters, each of which may be escaped; the rest is for the
/// position.
const MAX_LINE: usize = 2 * 600 * 10 + 100;
/// Fifty problems, and the number of further ones.
const MAX_LINES: usize = 51;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Resolves names without a resolver, gives every file the same content unless the input has it, and records all requests.
struct FakeEnvironment<'a> {
    included: Vec<(&'a str, &'a str)>,
    content: Option<&'a [u8]>,
    names: Mutex<Vec<String>>,
    files: Mutex<Vec<PathBuf>>,
}

impl<'a> FakeEnvironment<'a> {
    fn new(content: Option<&'a [u8]>) -> Self {
        FakeEnvironment {
            included: Vec::new(),
            content,
            names: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// The main file of an input, and an environment with the others.
    fn split(input: &'a str) -> (&'a str, Self) {
        let mut files = input.split(NEXT_FILE);
        let main = files.next().unwrap_or_default();
        let included = files.map(|file| file.split_once('\n').unwrap_or((file, "")));
        let environment = FakeEnvironment {
            included: included.collect(),
            ..FakeEnvironment::new(None)
        };
        (main, environment)
    }
}

impl Environment for FakeEnvironment<'_> {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.names.lock().expect("no panic").push(name.to_owned());
        match name.len() % 4 {
            0 => Err(io::Error::other("no such\nname")),
            1 => Ok(vec![Ipv6Addr::LOCALHOST.into()]),
            _ => Ok(vec![Ipv4Addr::new(10, 0, 0, 7).into()]),
        }
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.files.lock().expect("no panic").push(file.to_owned());
        let mut included = self.included.iter();
        if let Some((_, text)) = included.find(|(name, _)| Path::new(name) == file) {
            return Ok(text.as_bytes().to_owned());
        }
        let content = self.content.ok_or(io::ErrorKind::NotFound)?;
        Ok(content.to_owned())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let files = self.included.iter().map(|(name, _)| Path::new(name));
        let files = files.filter(|file| file.parent() == Some(directory));
        Ok(files
            .filter_map(|file| file.file_name().map(OsString::from))
            .collect())
    }

    fn variable(&self, name: &str) -> Result<String, VarError> {
        match name.len() % 4 {
            0 => Err(VarError::NotPresent),
            1 => Ok("1s, a: [\n".to_owned()),
            2 => Ok(String::new()),
            _ => Ok("${A}".to_owned()),
        }
    }
}

fn parse(text: &str, environment: &FakeEnvironment<'_>) -> Result<Config, ConfigErrors> {
    Config::parse_with(text, Path::new(FILE), environment)
}

/// Any text is parsed or refused, and the result depends on nothing but the text.
fn text(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    let (main, environment) = FakeEnvironment::split(text);
    let outcome = parse(main, &environment);
    let mut names = environment.names.into_inner().expect("no panic");
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    match &outcome {
        Ok(config) => assert_sound(config),
        Err(errors) => assert_readable(errors, text, true),
    }
    let again = parse(main, &FakeEnvironment::split(text).1);
    assert_same(&outcome, &again);
    // A comment in front moves every line and changes nothing else but the digest.
    if !text.starts_with(['\u{feff}', '%']) {
        let mut commented = parse(
            &format!("# a comment\n{main}"),
            &FakeEnvironment::split(text).1,
        );
        assert_eq!(commented.is_ok(), outcome.is_ok());
        if let (Ok(config), Ok(commented)) = (&outcome, &mut commented) {
            assert_ne!(commented.digest, config.digest);
            commented.digest.clone_from(&config.digest);
        }
        if outcome.is_ok() {
            assert_same(&outcome, &commented);
        }
    }
}

/// Any file as certificate, key or authority is parsed or refused.
fn pem(input: &[u8]) {
    for (text, files) in [
        (
            "listeners: [{ address: \"127.0.0.1:443\", tls: { certificates: [{ certificate: pem, key: pem }] } }]\n\
             pools: { web: { hosts: [\"127.0.0.1:1\"] } }\n",
            2,
        ),
        (
            "listeners: [\"127.0.0.1:80\"]\n\
             pools: { web: { hosts: [\"127.0.0.1:1\"], tls: { ca: pem } } }\n",
            1,
        ),
    ] {
        let environment = FakeEnvironment::new(Some(input));
        match parse(text, &environment) {
            Ok(config) => {
                assert_sound(&config);
                assert_nothing_is_left_out(&config, input);
            }
            Err(errors) => assert_readable(&errors, text, false),
        }
        let read = environment.files.into_inner().expect("no panic");
        assert!(read.len() <= files, "{read:?}");
        assert!(read.iter().all(|file| file == Path::new("pem")), "{read:?}");
    }
}

/// Asserts that the configuration has as many certificates as begin in the file.
fn assert_nothing_is_left_out(config: &Config, input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let begun = [
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN X509 CERTIFICATE-----",
    ];
    let begun: usize = begun.iter().map(|begin| text.matches(begin).count()).sum();
    for tls in config
        .listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref())
    {
        for certificate in tls.all_certificates() {
            assert_eq!(certificate.certified.cert.len(), begun);
        }
    }
    for tls in config.pools.iter().filter_map(|pool| pool.tls.as_ref()) {
        let authorities = tls.ca.as_ref().map_or(begun, |ca| ca.certificates.len());
        assert_eq!(authorities, begun);
    }
}

fn assert_same(one: &Result<Config, ConfigErrors>, other: &Result<Config, ConfigErrors>) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

/// Asserts the invariants of a configuration, and that a process can be built from it.
fn assert_sound(config: &Config) {
    assert!(config.server.threads > 0);
    assert!(config.server.grace_period <= DAY && config.server.drain_delay <= DAY);
    let timeouts = &config.timeouts;
    for time in [
        timeouts.connect,
        timeouts.read,
        timeouts.write,
        timeouts.idle,
        timeouts.client_keepalive,
        timeouts.tunnel,
    ] {
        assert!(!time.is_zero() && time <= DAY, "{time:?}");
    }
    assert!(!config.listeners.is_empty());
    for (index, listener) in config.listeners.iter().enumerate() {
        let mut others = config.listeners[..index].iter();
        assert!(!others.any(|other| other.address == listener.address));
        assert!(
            config.admin.address.is_none() || config.admin.address != listener.address.as_inet()
        );
    }
    for pool in &config.pools {
        let serves = |entry: &HostEntry| entry.settings.weight > 0;
        assert!(pool.hosts.iter().any(serves) || pool.further_sources().count() > 0);
        for (index, host) in pool.members.iter().enumerate() {
            assert!(host.weight <= MAX_WEIGHT && host.address.port() != Some(0));
            assert!(
                !pool.members[..index]
                    .iter()
                    .any(|other| other.id == host.id)
            );
        }
        if let Some(check) = &pool.health_check {
            assert!(!check.timeout.is_zero() && check.timeout <= check.interval);
            assert!(check.interval <= DAY && check.rise > 0 && check.fall > 0);
        }
    }
    assert!(!config.pools.is_empty() && !config.routes.is_empty());
    let used = config.routes.iter().flat_map(Route::pools);
    let used = BTreeSet::from_iter(used.map(|pool| pool.index));
    assert!(used.into_iter().eq(0..config.pools.len()));
    let shares = config
        .routes
        .iter()
        .filter_map(|route| route.action.pools.as_ref());
    for shares in shares {
        assert!(shares.iter().any(|share| share.weight > 0));
    }
    let rates = config.routes.iter().filter_map(|route| route.rate.as_ref());
    for rate in rates.chain(&config.limits.rate) {
        let burst = rate.interval().checked_mul(rate.burst.get().into());
        assert!(burst.is_some_and(|burst| burst > 0), "{rate}");
    }
    let active = ActiveConfig::new(config, &mut HostRegistry::new());
    let active = active.expect("what was checked can be built");
    assert_eq!(active.pools.len(), config.pools.len());
}

/// Asserts one line for each problem, each with a valid position, and with the file's name if that is the only one.
fn assert_readable(errors: &ConfigErrors, text: &str, may_include: bool) {
    let lines = errors.to_string();
    let lines = Vec::from_iter(lines.split('\n'));
    assert!(lines.len() <= MAX_LINES, "{} lines", lines.len());
    // One more, for errors at the end of the file.
    let last = text
        .split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
        .count()
        + 1;
    for line in lines {
        assert!(line.len() <= MAX_LINE, "{} bytes", line.len());
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let rest = line.strip_prefix("b.yaml:");
        let Some(rest) = rest else {
            assert!(
                may_include && text.contains("include"),
                "{line:?} does not begin with the file"
            );
            continue;
        };
        if let Some((number, _)) = rest.split_once(':')
            && let Ok(number) = number.parse::<usize>()
        {
            assert!((1..=last).contains(&number), "line {number} of {last}");
        }
    }
}

#[test]
fn fuzz_config() {
    const WORDS: &[&str] = &[
        "listeners",
        "pools",
        "routes",
        "hosts",
        "algorithm",
        "health_check",
        "timeouts",
        "server",
        "admin",
        "trusted_proxies",
        "client_identity",
        "paths",
        "limits",
        "tls",
        "certificates",
        "127.0.0.1:1",
        "app.internal:80",
        "[::1]:80",
        "10.0.0.0/8",
        ": ",
        "- ",
        "{ ",
        " }",
        "[",
        "]",
        ", ",
        "\n  ",
        "\n",
        "&a ",
        "*a",
        "<<: ",
        "!t ",
        "|\n",
        ">\n",
        "? ",
        "# ",
        "\"",
        "'",
        "\\",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "~",
        "null",
        "true",
        "0",
        "-1",
        "0x10",
        "1e999",
        ".inf",
        ".nan",
        "18446744073709551616",
        "1ms",
        "24h",
        "1ns",
        "none",
        "*.example.com",
        "/v1/",
        "header:X-User",
        "cookie:",
        "weight: ",
        "5/min",
        "\u{feff}",
        "\u{2028}",
        "ü",
        "include: ",
        "a/*.yaml",
        "\n#file a/b.yaml\n",
        "${A}",
        "${ABCD:-1s}",
        "$${",
        "x-a: ",
    ];
    super::run("config", WORDS, text);
}

#[test]
fn fuzz_pem() {
    const WORDS: &[&str] = &[
        "-----BEGIN CERTIFICATE-----\n",
        "-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\n",
        "-----END PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\n",
        "-----END CERTIFICATE----------BEGIN CERTIFICATE-----",
        "-----BEGIN X509 CERTIFICATE-----\n",
        "-----BEGIN TRUSTED CERTIFICATE-----\n",
        "-----BEGIN EC PARAMETERS-----\n",
        "Proc-Type: 4,ENCRYPTED\n",
        "\u{feff}",
        "-----",
        "BEGIN ",
        "END ",
        "AAAA",
        "MIIB",
        "=",
        "==",
        "\r\n",
        "\n",
    ];
    super::run("pem", WORDS, pem);
}
