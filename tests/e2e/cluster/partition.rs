//! A member that is cut off from etcd while the others reach it.

use super::{AGREED, TIMES, cluster, member, member_of, run, state_of, wait_connected};
use crate::support::{
    Backend, Ballast, Connections, Etcd, Forwarder, Load, SOON, Setup, wait_until,
};

#[test]
fn a_member_that_is_cut_off_goes_on_with_its_last_share_and_agrees_afterwards() {
    let Some(etcd) = Etcd::start() else { return };
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let setup = Setup::of(&[&a, &b]);
    let line = Forwarder::start(etcd.address(0));
    let cut = etcd.section_at(&[line.address()], TIMES);
    let cut = Ballast::start(&member_of(&setup, &cut, "cut"));
    let others = ["one", "two"].map(|name| Ballast::start(&member(&setup, &etcd, name)));
    let [one, two] = &others;
    for ballast in [&cut, one, two] {
        super::wait_for_members(ballast, &["cut", "one", "two"]);
    }
    let loads =
        [&cut, one, two].map(|ballast| Load::start(ballast.address(), 1, Connections::Kept));
    let id = a.address().to_string();
    line.set_silent(true);
    run(one, &["drain", &id]);
    wait_until(AGREED, "drained", || state_of(two, &a) == "draining 1");
    wait_connected(&cut, false);
    let refused = cut.command(&["drain", &b.address().to_string()]);
    assert!(
        refused.stderr.contains("nothing was changed"),
        "{}",
        refused.stderr
    );
    // Its lease ends, so the others divide by two.
    for ballast in &others {
        super::wait_for_members(ballast, &["one", "two"]);
        assert_eq!(cluster(ballast)["shares"], 2);
    }
    // It does not know of the drain, and keeps its share.
    assert_eq!(state_of(&cut, &a), "up 1");
    assert_eq!(cluster(&cut)["shares"], 3);
    line.set_silent(false);
    wait_connected(&cut, true);
    wait_until(AGREED, "drained", || state_of(&cut, &a) == "draining 1");
    for ballast in [&cut, one, two] {
        super::wait_for_members(ballast, &["cut", "one", "two"]);
    }
    run(&cut, &["undrain", &id]);
    for ballast in [&cut, one, two] {
        wait_until(SOON, "undrained", || state_of(ballast, &a) == "up 1");
    }
    for load in loads {
        load.wait_for_more(5);
        load.stop().assert_all_ok("the partition");
    }
}
