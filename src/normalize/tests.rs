use proptest::prelude::*;

use super::*;

fn normal(sent: &str) -> (String, bool) {
    let NormalizedPath { path, ambiguous } = path(sent.as_bytes());
    (String::from_utf8(path.into_owned()).unwrap(), ambiguous)
}

#[test]
fn all_spellings_of_a_path_have_one_form() {
    for (sent, expected) in [
        ("/admin", "/admin"),
        ("//admin", "/admin"),
        ("///admin", "/admin"),
        ("/%61dmin", "/admin"),
        ("/%61%64%6D%69%6e", "/admin"),
        ("/./admin", "/admin"),
        ("/%2e/admin", "/admin"),
        ("/x/../admin", "/admin"),
        ("/x/%2e%2E/admin", "/admin"),
        ("/x/.%2e/admin", "/admin"),
        ("/admin;a=1", "/admin"),
        ("/admin;a=1;b=2/x;c", "/admin/x"),
        ("/;a/admin", "/admin"),
        ("\\admin", "\\admin"),
        ("/\\admin", "/admin"),
        ("/admin\\x", "/admin/x"),
        ("/admin//", "/admin/"),
        ("/admin/.", "/admin/"),
        ("/admin/x/..", "/admin/"),
        ("/admin/..", "/"),
        ("/admin/;a", "/admin/"),
        ("/a//b/../c", "/a/c"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/..a/.b", "/..a/.b"),
        ("/%40user!", "/@user!"),
        ("/a%20b", "/a%20b"),
        ("/caf\u{e9}", "/caf%C3%A9"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/%252f", "/%252f"),
        ("/%2561dmin", "/%2561dmin"),
        ("/a%3fb%23", "/a%3Fb%23"),
        ("/\"<>`{|}^", "/\"<>`{|}^"),
        ("/%22%3c%3E%60%7b%7c%7d%5e", "/\"<>`{|}^"),
        ("//admin/x", "/admin/x"),
        ("//", "/"),
        ("", "/"),
        ("/", "/"),
        ("*", "*"),
    ] {
        assert_eq!(normal(sent), (expected.to_owned(), false), "{sent}");
    }
}

#[test]
fn a_path_that_hosts_may_read_differently_is_ambiguous() {
    for sent in [
        "/admin%2fx",
        "/admin%2Fx",
        "/admin%5cx",
        "/admin%00",
        "/admin%0a",
        "/admin%7f",
        "/admin%3ba=1",
        "/admin;a=%2f",
        "/..",
        "/../admin",
        "/x/../../admin",
        "/%2e%2e/admin",
        "/x/..;/admin",
        "/x/..;a=1/admin",
        "/.;/admin",
        "/admin//../x",
        "/admin/;a/../x",
        "/admin/\\../x",
        "/x\\..\\admin",
        "/a\\b/../c",
        "/admin%",
        "/admin%4",
        "/admin%zz",
        "/admin%u002f",
        "/admin%c0%afx",
        "/%c0%ae%c0%ae/x",
        "/%e0%80%af",
        "/%f0%80%80%af",
        "//example.com/admin",
        "/\\example.com/admin",
        "//user@h/admin",
    ] {
        assert!(normal(sent).1, "{sent} is {}", normal(sent).0);
    }
}

#[test]
fn spellings_of_a_host_have_one_form() {
    for (sent, expected) in [
        ("a.example", "a.example"),
        ("a.example.", "a.example"),
        ("a.example:80", "a.example"),
        ("a.example.:8443", "a.example"),
        ("%61.example%2e", "a.example"),
        ("a%zz", "a%zz"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
        (".", ""),
    ] {
        assert_eq!(*host(sent.as_bytes()), *expected.as_bytes(), "{sent}");
    }
}

#[test]
fn a_plain_path_is_not_copied() {
    for sent in ["/", "/a/b.c", "/a-_~!$&'()*+,=:@/x"] {
        assert!(matches!(path(sent.as_bytes()).path, Cow::Borrowed(_)));
    }
}

proptest! {
    #[test]
    fn a_normal_path_is_its_own_normal_form(sent in "/[a%2ef5cF/.;\\\\#? é0]{0,16}") {
        let once = path(sent.as_bytes());
        let again = path(&once.path);
        prop_assert_eq!(&again.path, &once.path);
        prop_assert!(once.path.starts_with(b"/"));
        let segments = once.path.split(|byte| *byte == b'/');
        prop_assert!(segments.clone().all(|segment| !matches!(segment, b"." | b"..")));
        prop_assert!(!once.path.windows(2).any(|pair| pair == b"//"));
    }
}
