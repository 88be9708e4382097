//! Certificates that the members of a cluster order.

use super::member;
use crate::support::{
    Backend, Ballast, Etcd, LISTEN, Pebble, SOON, Setup, free, get, served_certificate, wait_until,
};

#[test]
fn one_member_at_a_time_orders_certificates() {
    let Some(etcd) = Etcd::start() else { return };
    let (plain, tls) = (free(), free());
    let Some(mut pebble) = Pebble::prepare(plain, tls) else {
        return;
    };
    pebble.run();
    let backend = Backend::start_new("a");
    let states = ["one", "two"].map(|name| (name, tempfile::tempdir().expect("a folder")));
    // The authority asks the first; the second cannot prove anything, and gives the lock back all the same.
    let listeners = [(plain, tls), (free(), free())];
    let balancers = states
        .each_ref()
        .map(|(name, state)| {
            let (plain, tls) = listeners[usize::from(*name == "two")];
            let listeners = format!(
                "listeners: [\"{LISTEN}\", \"{plain}\", {{ address: \"{tls}\", tls: {{}} }}]"
            );
            let setup = Setup::of(&[&backend])
                .top(&listeners)
                .top(&pebble.section(state.path(), "domains: [a.test]"));
            member(&setup, &etcd, name)
        })
        .map(|yaml| Ballast::start(&yaml));
    wait_until(SOON, "the certificate is served", || {
        served_certificate(tls, Some("a.test")).is_ok()
    });
    balancers[1].wait_for_log(&["WARN", "certificate for a.test not ordered, attempt 1: "]);
    assert_eq!(get(plain, "/").status, 200);
    // The lock was taken and given back by one after the other.
    let events = etcd.events("/ballast/test/locks/acme", 4);
    let kinds = Vec::from_iter(events.iter().map(|event| event.kind.as_str()));
    assert_eq!(kinds, ["PUT", "DELETE", "PUT", "DELETE"], "{events:?}");
    let mut holders = Vec::from_iter([0, 2].map(|number: usize| events[number].value.as_str()));
    holders.sort_unstable();
    assert_eq!(holders, ["one", "two"]);
}
