//! Several files and what stands in them for something else: `include`, environment variables, aliases.

use std::collections::BTreeMap;
use std::env::VarError;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ballast::config::{Config, ConfigErrors, Environment, control_socket};

use crate::{errors, parse, with_top};

const MAIN: &str = "/etc/b.yaml";

/// Files by their names below /etc, and environment variables.
#[derive(Default)]
struct Files {
    files: BTreeMap<String, String>,
    variables: BTreeMap<&'static str, String>,
}

impl Environment for Files {
    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other("no such name"))
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        let name = file.strip_prefix("/etc").map_err(io::Error::other)?;
        let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let text = self.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.clone().into_bytes())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let names = self.files.keys().map(|name| Path::new("/etc").join(name));
        let within = names.filter(|file| file.parent() == directory.components().as_path().into());
        let names = within.filter_map(|file| file.file_name().map(OsString::from));
        // Directories have their names in no order.
        let mut names = Vec::from_iter(names);
        names.reverse();
        match names.is_empty() && !directory.ends_with("empty") {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Ok(names),
        }
    }

    fn variable(&self, name: &str) -> Result<String, VarError> {
        self.variables
            .get(name)
            .cloned()
            .ok_or(VarError::NotPresent)
    }
}

impl Files {
    fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter();
        let files = files.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Files {
            files: files.collect(),
            variables: BTreeMap::new(),
        }
    }

    fn try_parse(&self, main: &str) -> Result<Config, ConfigErrors> {
        Config::parse_with(main, Path::new(MAIN), self)
    }

    #[track_caller]
    fn parse(&self, main: &str) -> Config {
        self.try_parse(main)
            .unwrap_or_else(|errors| panic!("{errors}\n{main}"))
    }

    /// The error lines, without `/etc/`.
    #[track_caller]
    fn errors(&self, main: &str) -> Vec<String> {
        match self.try_parse(main) {
            Ok(_) => panic!("accepted:\n{main}"),
            Err(errors) => {
                let lines = errors.to_string();
                let lines = lines.lines();
                lines
                    .map(|line| line.strip_prefix("/etc/").unwrap_or(line).to_owned())
                    .collect()
            }
        }
    }
}

const SITES: &str = "include: conf.d/*.yaml
listeners: [\"127.0.0.1:80\"]
timeouts: { connect: 1s }
trusted_proxies: [10.0.0.0/8]
routes: [{ pool: web }]
pools:
  web: { hosts: [\"127.0.0.1:1\"] }
";

#[test]
fn included_files_are_merged_in_the_order_of_their_names() {
    let files = Files::of(&[
        (
            "conf.d/20-b.yaml",
            "routes: [{ path: /b, pool: b }]\npools: { b: { hosts: [\"127.0.0.1:3\"] } }\n",
        ),
        (
            "conf.d/10-a.yaml",
            "timeouts: { read: 2s }\ntrusted_proxies: 192.168.0.0/16\n\
             routes: [{ path: /a, pool: a }]\npools: { a: { hosts: [\"127.0.0.1:2\"] } }\n",
        ),
        ("conf.d/30-nothing.yaml", "# no key\n"),
        ("conf.d/.10-a.yaml.swp", "no: yaml: at: all"),
        ("conf.d/.hidden.yaml", "wrong: 1"),
        ("conf.d/10-a.yaml~", "wrong: 1"),
    ]);
    let config = files.parse(SITES);
    let routes = config.routes.iter().flat_map(|route| route.action.pools());
    assert_eq!(
        Vec::from_iter(routes.map(|pool| pool.name.as_str())),
        ["a", "b", "web"]
    );
    let pools = config.pools.iter().map(|pool| pool.name.as_str());
    assert_eq!(Vec::from_iter(pools), ["web", "a", "b"]);
    let timeouts = (
        config.timeouts.connect.as_secs(),
        config.timeouts.read.as_secs(),
    );
    assert_eq!(timeouts, (1, 2));
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.dump()["include"][0], "conf.d/*.yaml");
    // Without files the digest is that of the file alone; each file changes it.
    let empty = SITES.replace("conf.d", "empty");
    let digest = |files: &Files, main: &str| files.parse(main).digest;
    assert_eq!(
        digest(&files, &empty),
        digest(&Files::default(), &empty),
        "no file is read"
    );
    let before = digest(&files, SITES);
    let mut other = Files::of(&[]);
    other.files.clone_from(&files.files);
    other.files.insert(
        "conf.d/30-nothing.yaml".to_owned(),
        "# another\n".to_owned(),
    );
    assert_ne!(digest(&other, SITES), before);
}

#[test]
fn files_may_be_listed_by_name() {
    let files = Files::of(&[
        ("one.yaml", "listeners: \"127.0.0.1:80\""),
        ("x/two.yaml", "pools: { web: { hosts: [\"127.0.0.1:1\"] } }"),
    ]);
    let config = files.parse("include: [\"x/t[wx]o.yaml\", one.yaml, x/two.yaml]\n");
    assert_eq!((config.listeners.len(), config.pools.len()), (1, 1));
}

#[test]
fn an_error_names_its_file() {
    let files = Files::of(&[
        (
            "conf.d/a.yaml",
            "timeouts:\n  connect: 5\n  raed: 1s\npools:\n  web: { hosts: [\"127.0.0.1:2\"] }\n",
        ),
        (
            "conf.d/b.yaml",
            "include: more.yaml\nroutes:\n  - pool: wbe\n  - { path: /x, pool: web }\npools: { web: {} }\nhalf_close: serve\n",
        ),
        ("conf.d/c.yaml", "[a]"),
        ("conf.d/d.yaml", "half_close: abort\n"),
    ]);
    assert_eq!(
        files.errors(SITES),
        [
            "conf.d/a.yaml:2:3: timeouts.connect: `connect` is at /etc/b.yaml:3:13 already; it can be in one file only",
            "conf.d/a.yaml:3:3: timeouts: unknown key `raed`, expected one of `connect`, `read`, `write`, `idle`, `client_head`, \
             `client_keepalive`, `tunnel`; did you mean `read`?",
            "conf.d/a.yaml:5:3: pools.web: `web` is at /etc/b.yaml:7:3 already; it can be in one file only",
            "conf.d/b.yaml:1:1: include: an included file cannot include others; name them in `/etc/b.yaml`",
            "conf.d/b.yaml:3:11: routes[0].pool: there is no pool `wbe`; did you mean `web`?",
            "conf.d/b.yaml:5:10: pools.web: `web` is at /etc/b.yaml:7:3 already; it can be in one file only",
            "conf.d/c.yaml:1:1: expected a map, found a list",
            "conf.d/d.yaml:1:1: half_close: `half_close` is at /etc/conf.d/b.yaml:6:1 already; it can be in one file only",
        ]
    );
    let files = Files::of(&[
        ("conf.d/a.yaml", "pools: [\n"),
        ("conf.d/b.yaml", "x: *y\n"),
    ]);
    let lines = files.errors(SITES);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].starts_with("conf.d/a.yaml:"), "{lines:#?}");
    assert_eq!(lines[1], "conf.d/b.yaml:1:4: unknown anchor");
}

#[test]
fn a_route_that_another_file_hides_is_reported_with_both_places() {
    let files = Files::of(&[("conf.d/a.yaml", "routes:\n- web\n")]);
    let lines = files.errors(SITES);
    assert_eq!(
        lines,
        ["conf.d/a.yaml:2:3: routes[0]: expected a map, found `web`"],
        "a route is a map"
    );
    let files = Files::of(&[("conf.d/a.yaml", "routes:\n- pool: web\n")]);
    assert_eq!(
        files.errors(SITES),
        [
            "b.yaml:5:10: routes[1]: no request gets here, because routes[0], at /etc/conf.d/a.yaml:2:3, matches all that \
             this one would match; put this one first or remove it"
        ]
    );
}

#[test]
fn paths_begin_in_the_directory_of_their_file() {
    let sticky = "pools: { a: { hosts: [\"127.0.0.1:2\"], sticky: { cookie: a, secret_file: key } } }\n\
                  routes: [{ path: /a, pool: a }]\n";
    let files = Files::of(&[
        ("conf.d/a.yaml", sticky),
        ("conf.d/key", "0123456789abcdef"),
    ]);
    let config = files.parse(SITES);
    let sticky = config.pools[1].sticky.as_ref().expect("a cookie");
    let secret = sticky.secret_file.as_ref().expect("a secret");
    assert_eq!(secret.file, Path::new("/etc/conf.d/key"));
}

#[test]
fn commands_find_the_control_socket_in_an_included_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("a file");
    std::fs::create_dir(path("conf.d")).expect("a directory");
    write("b.yaml", "include: conf.d/*\nserver: { threads: 1 }\n");
    // A file that is being edited does not matter.
    write("conf.d/a", "pools: [");
    let socket = || control_socket(&path("b.yaml"));
    assert_eq!(socket(), Ok(None));
    write(
        "conf.d/b",
        "server: { control_socket: \"${BALLAST_NOT_SET:-run}/a.sock\" }\n",
    );
    assert_eq!(socket(), Ok(Some(path("conf.d/run/a.sock"))));
    write(
        "b.yaml",
        "server: { control_socket: \"${BALLAST_NOT_SET}\" }\n",
    );
    let told = socket().expect_err("a variable is not set").to_string();
    assert!(
        told.contains(":1:27: server.control_socket: the environment variable"),
        "{told}"
    );
}

#[test]
fn names_that_cannot_be_included_are_refused() {
    let files = Files::of(&[("conf.d/a.yaml", "")]);
    for (include, expected) in [
        ("none.yaml", "include: there is no file `none.yaml`"),
        (
            "[none/*.yaml]",
            "include[0]: cannot read the directory `/etc/none/`: entity not found",
        ),
        (
            "conf.d/",
            "include: `conf.d/` is not the path of a file; write `conf.d/*.yaml` for the files of a directory",
        ),
        (
            "\"*/a.yaml\"",
            "include: `*/a.yaml` has `*`, `?` or `[` in the name of a directory; only the name of the file may have them",
        ),
        (
            "conf.d/**.yaml",
            "include: `conf.d/**.yaml` has `**` in it; `*` stands for any name, and directories within are not read",
        ),
        (
            "conf.d/[a.yaml",
            "include: `conf.d/[a.yaml` is not a pattern: invalid range pattern",
        ),
        (
            "b.yaml",
            "include: `b.yaml` is this file itself; put the others into a directory of their own, as in `conf.d/*.yaml`",
        ),
        ("{ a: b }", "include: expected a list of files, found a map"),
        (
            "[[a]]",
            "include[0]: expected the path of a file, whose name may have `*`, `?` and `[...]` in it, found a list",
        ),
    ] {
        let lines = files.errors(&with_top(&format!("include: {include}")));
        let [line] = &*lines else {
            panic!("{lines:#?}");
        };
        let message = line.splitn(4, ':').last().expect("a message");
        assert_eq!(message.trim(), expected);
    }
    let mut many = Files::default();
    for number in 0..1_001 {
        many.files.insert(format!("conf.d/{number}"), String::new());
    }
    let lines = many.errors(&with_top("include: conf.d/*"));
    assert_eq!(
        lines,
        ["b.yaml:1:10: include: there are more than 1000 files to include"]
    );
}

#[test]
fn variables_are_replaced_in_values() {
    let mut files = Files::default();
    for (name, value) in [
        ("ADDRESS", "127.0.0.1"),
        ("PORT", "8080"),
        ("YES", "true"),
        ("EMPTY", ""),
        ("YAML", "1s, read: 2s } #"),
    ] {
        files.variables.insert(name, value.to_owned());
    }
    let config = files.parse(
        "listeners: [\"${ADDRESS}:${PORT}\", '${NONE:-127.0.0.1}:81', \"${EMPTY:-127.0.0.1:82}\"]\n\
         limits:\n  max_in_flight: ${PORT}\n\
         pools:\n  web:\n    hosts: [\"127.0.0.1:1\"]\n    tls: ${YES}\n    \
         health_check: { type: http, path: \"/$${PORT}/$PORT/${EMPTY}\" }\n",
    );
    let ports = config
        .listeners
        .iter()
        .map(|listener| listener.address.port());
    assert_eq!(Vec::from_iter(ports), [8080, 81, 82].map(Some));
    assert_eq!(config.limits.max_in_flight, Some(8080));
    assert!(config.pools[0].tls.is_some());
    let path = &config.dump()["pools"]["web"]["health_check"]["path"];
    assert_eq!(path, "/${PORT}/$PORT/");
    // No value becomes more than one value.
    let line = files.errors(&with_top("timeouts:\n  connect: ${YAML}"));
    assert_eq!(
        line,
        [
            "b.yaml:2:12: timeouts.connect: `1s, read: 2s } #` is not a time such as `500ms`, `2s` or `1m30s`"
        ]
    );
}

#[test]
fn variables_that_are_wrong_are_reported_at_once() {
    let mut files = Files::of(&[(
        "conf.d/a.yaml",
        "timeouts:\n  read: ${READ}\n  write: ${PORT\n  idle: ${A-b}\n  tunnel: ${EMPTY}\n  client_head: ${A:-${B}}\n",
    )]);
    files.variables.insert("EMPTY", String::new());
    let main = "include: conf.d/*.yaml\n\
                listeners: [\"${HOST}:${PORT}\"]\n\
                pools:\n  web:\n    hosts: [\"127.0.0.1:1\"]\n    weight: 1\n    tls:\n      ca: ${CA}\n";
    let unset = |name: &str| {
        format!(
            "the environment variable `{name}` is not set; set it, or write a default as in `${{{name}:-default}}`"
        )
    };
    let lines = files.errors(main);
    let expected = [
        format!("b.yaml:2:13: listeners[0]: {}", unset("HOST")),
        format!("b.yaml:2:13: listeners[0]: {}", unset("PORT")),
        format!("b.yaml:8:11: pools.web.tls.ca: {}", unset("CA")),
        format!("conf.d/a.yaml:2:9: timeouts.read: {}", unset("READ")),
        "conf.d/a.yaml:3:10: timeouts.write: `${PORT` has no `}`; write `${NAME}`, or `$${` for a literal `${`".to_owned(),
        "conf.d/a.yaml:4:9: timeouts.idle: `${A-b}` is not a variable; write `${NAME}`, `${NAME:-default}`, or `$${` for a \
         literal `${`; a name has letters, digits and `_`"
            .to_owned(),
        "conf.d/a.yaml:5:11: timeouts.tunnel: `${EMPTY}` is empty; give the variable a value, or write quotes if the value \
         may be empty"
            .to_owned(),
        "conf.d/a.yaml:6:16: timeouts.client_head: the default of the variable `A` has another variable in it; write a plain \
         text"
            .to_owned(),
    ];
    let (unknown, others): (Vec<_>, Vec<_>) = lines
        .iter()
        .partition(|line| line.contains("unknown key `weight`"));
    // What is known is checked as well, and nothing is said about what is not.
    assert_eq!(unknown.len(), 1, "{lines:#?}");
    assert_eq!(others, Vec::from_iter(&expected), "{lines:#?}");
    // Keys stay as they are.
    let line = files.errors(&with_top("${HOST}: 1")).concat();
    assert!(line.contains("unknown key `${HOST}`"), "{line}");
    let line = files.errors("listeners: [${HOST}]\n").concat();
    assert!(
        line.contains("within brackets, a value with `${` stands in quotes"),
        "{line}"
    );
}

#[test]
fn the_values_of_variables_are_bounded() {
    let mut files = Files::default();
    files.variables.insert("A", "a".repeat(100_000));
    let text = with_top(&format!("half_close: \"{}\"", "${A}".repeat(1_000)));
    let line = files.errors(&text).concat();
    assert!(
        line.contains("the variables have more than 16777216 bytes in all"),
        "{line}"
    );
}

#[test]
fn aliases_and_merges_stand_for_what_has_the_anchor() {
    let config = parse(
        "x-checks: &check { type: http, path: /healthz, interval: 9s }\n\
         x-defaults:\n  slow: &slow { algorithm: random, retries: none }\n  sure: &sure { algorithm: p2c, ejection: none }\n\
         listeners: [\"127.0.0.1:80\"]\n\
         routes: [{ path: /a, pool: a }, { pool: b }]\n\
         pools:\n  \
           a:\n    <<: [*slow, *sure]\n    hosts: [\"127.0.0.1:1\"]\n    health_check: { <<: *check, interval: 5s }\n  \
           b:\n    hosts: [\"127.0.0.1:2\"]\n    <<: *sure\n    health_check: *check\n",
    );
    let [a, b] = &*config.pools else {
        panic!("two pools");
    };
    assert_eq!(
        (a.algorithm.info().name, b.algorithm.info().name),
        ("random", "p2c")
    );
    assert!(a.retries.is_none() && b.retries.is_some());
    assert!(a.ejection.is_none() && b.ejection.is_none());
    let interval = |pool: &ballast::config::Pool| {
        let check = pool.health_check.as_ref().expect("a check");
        check.interval.as_secs()
    };
    assert_eq!((interval(a), interval(b)), (5, 9));
}

#[test]
fn an_error_in_an_alias_is_where_the_anchor_is() {
    let text =
        with_top("x-t: &t 5\nx-m: &m\n  read: 6\ntimeouts: { connect: *t, <<: *m }\n\"x-\": ~");
    assert_eq!(
        errors(&text),
        [
            "b.yaml:1:6: timeouts.connect: `5` has no unit; write `5s` for seconds or `5ms` for milliseconds",
            "b.yaml:3:9: timeouts.read: `6` has no unit; write `6s` for seconds or `6ms` for milliseconds",
        ]
    );
    for (text, expected) in [
        (
            "timeouts: { <<: 5 }",
            "b.yaml:1:17: timeouts.<<: expected a map or a list of maps, as in `<<: *defaults`, found `5`",
        ),
        (
            "timeouts: { <<: [5] }",
            "b.yaml:1:18: timeouts.<<: expected a map or a list of maps, as in `<<: *defaults`, found `5`",
        ),
        (
            "timeouts: { <<: {}, <<: {} }",
            "b.yaml:1:21: timeouts: the key `<<` is here twice; write `<<: [*one, *other]`",
        ),
    ] {
        assert_eq!(errors(&with_top(text)), [expected]);
    }
    let quoted = errors(&with_top("timeouts: { \"<<\": {} }")).concat();
    assert!(quoted.contains("unknown key `<<`"), "{quoted}");
    let nested = errors(&with_top("timeouts: { x-t: 5 }")).concat();
    assert!(nested.contains("unknown key `x-t`"), "{nested}");
}

#[test]
fn aliases_of_aliases_are_not_nested_without_end() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let mut text = format!("x-0: &a0 {}\n", nested(40));
    for number in 1..4 {
        let before = number - 1;
        text += &format!(
            "x-{number}: &a{number} {}\n",
            nested(40).replace("[]", &format!("[*a{before}]"))
        );
    }
    let lines = errors(&with_top(&text));
    assert!(
        lines.concat().contains("the values are nested too deeply"),
        "{lines:#?}"
    );
}
