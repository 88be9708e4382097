use std::path::Path;

use super::*;
use crate::discovery::answer::Answer;

fn file(pool: &str) -> Config {
    let text = format!("listeners: [\"127.0.0.1:80\"]\npools: {{ web: {{ {pool} }} }}\n");
    Config::parse(&text, Path::new("b.yaml")).expect("a configuration")
}

fn table(answers: &[(HostSource, &[u8])]) -> SourceTable {
    let table = SourceTable::default();
    for (source, numbers) in answers {
        let hosts = numbers
            .iter()
            .map(|number| FoundHost::at(([10, 0, 0, *number], 0)));
        let hosts = hosts.collect();
        table.report(source, Answer::Complete { hosts, ttl: None });
    }
    table
}

fn name(name: &str) -> HostSource {
    HostSource::Name(name.to_owned())
}

/// The hosts, and those of them that leave.
fn shown(config: &Config) -> (String, usize) {
    let members = &config.pools[0].members;
    let ids = Vec::from_iter(members.iter().map(|host| host.id.as_str()));
    let leaving = members.iter().filter(|host| host.is_leaving).count();
    (ids.join(" "), leaving)
}

#[test]
fn entries_keep_their_order_and_each_host_is_there_once() {
    let file = file(
        "hosts: [\"b.test:80\", \"10.0.0.9:80\", { address: \"a.test:80\", weight: 7, backup: true, name: app }]",
    );
    let table = table(&[(name("a.test"), &[1, 2, 9]), (name("b.test"), &[2, 3])]);
    let found = with_members(&file, &table, None, |_, _| true);
    assert_eq!(
        shown(&found).0,
        "10.0.0.2:80 10.0.0.3:80 10.0.0.9:80 10.0.0.1:80"
    );
    let last = &found.pools[0].members[3];
    assert_eq!((last.weight, last.backup), (7, true));
    assert_eq!(last.label.as_deref(), Some("app 10.0.0.1:80"));
    assert_eq!(last.authority(), "a.test:80");
    assert_eq!(found.pools[0].members[2].source, None);
}

#[test]
fn hosts_leave_once_half_of_the_others_are_usable() {
    let file = file("hosts: [\"a.test:80\"]");
    let before = with_members(
        &file,
        &table(&[(name("a.test"), &[1, 2, 3])]),
        None,
        |_, _| true,
    );
    let replaced = table(&[(name("a.test"), &[4, 5, 6])]);
    let after = |usable: &[u8]| {
        let usable = Vec::from_iter(usable.iter().map(|number| format!("10.0.0.{number}:80")));
        let is_usable = |_: &str, id: &HostId| usable.iter().any(|usable| usable == id.as_str());
        shown(&with_members(&file, &replaced, Some(&before), is_usable))
    };
    let named = "10.0.0.4:80 10.0.0.5:80 10.0.0.6:80";
    let all = format!("{named} 10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
    assert_eq!(after(&[1, 2, 3]), (all.clone(), 3));
    assert_eq!(after(&[1, 2, 3, 4]), (all, 3));
    assert_eq!(after(&[1, 2, 3, 4, 5]), (named.to_owned(), 0));
    // Those that do not work help nobody.
    assert_eq!(after(&[2]), (format!("{named} 10.0.0.2:80"), 1));
    assert_eq!(after(&[]), (named.to_owned(), 0));
}

#[test]
fn who_removes_a_source_from_the_file_removes_its_hosts() {
    let two = file("hosts: [\"a.test:80\", \"b.test:80\"]");
    let table = table(&[(name("a.test"), &[1]), (name("b.test"), &[2])]);
    let before = with_members(&two, &table, None, |_, _| true);
    let one = file("hosts: [\"b.test:80\"]");
    let is_usable = |_: &str, id: &HostId| id.as_str() == "10.0.0.1:80";
    let after = with_members(&one, &table, Some(&before), is_usable);
    assert_eq!(shown(&after), ("10.0.0.2:80".to_owned(), 0));
}

#[test]
fn a_source_that_says_nothing_yet_has_no_hosts() {
    let file = file("hosts: [\"a.test:80\", \"10.0.0.1:80\"]");
    let found = with_members(&file, &SourceTable::default(), None, |_, _| true);
    assert_eq!(shown(&found), ("10.0.0.1:80".to_owned(), 0));
}
