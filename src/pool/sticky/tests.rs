use proptest::prelude::*;

use super::*;

pub(in crate::pool) const TTL: Duration = Duration::from_secs(600);

pub(in crate::pool) fn sticky(pool: &str, hosts: &[&str], secret: Option<&str>) -> StickyTokens {
    let config = config::Sticky {
        cookie: "c".to_owned(),
        ttl: TTL,
        secure: config::Secure::Auto,
        http_only: true,
        same_site: config::SameSite::Lax,
        secret_file: secret.map(|text| config::Secret {
            file: "k".into(),
            bytes: text.into(),
        }),
    };
    let hosts = Vec::from_iter(hosts.iter().map(|id| HostId::from(*id)));
    StickyTokens::new(&config, pool, hosts.iter())
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

const NOW: u64 = 1_800_000_000;

#[test]
fn a_token_names_its_host_until_it_expires() {
    let sticky = sticky("web", &["10.0.0.1:80", "10.0.0.2:80"], None);
    let host = HostId::from("10.0.0.2:80");
    let token = sticky.token(&host, at(NOW));
    assert_eq!(token.len(), TEXT_LENGTH);
    let read = |seconds| sticky.read(token.as_bytes(), at(seconds));
    let affinity = |needs_renewal| {
        Some(Affinity {
            host: host.clone(),
            needs_renewal,
        })
    };
    assert_eq!(read(NOW), affinity(false));
    assert_eq!(read(NOW + 299), affinity(false));
    assert_eq!(read(NOW + 300), affinity(true));
    assert_eq!(read(NOW + 599), affinity(true));
    assert_eq!(read(NOW + 600), None);
    // A clock that was set back.
    assert_eq!(read(NOW - 10_000), affinity(false));
    assert_eq!(read(0), affinity(false));
}

#[test]
fn tokens_of_other_pools_keys_and_hosts_are_invalid() {
    let hosts = ["a:1", "b:1"];
    let web = sticky("web", &hosts, Some("the secret of the tests"));
    let token = web.token(&HostId::from("b:1"), at(NOW));
    let read = |sticky: &StickyTokens| sticky.read(token.as_bytes(), at(NOW));
    assert!(read(&sticky("web", &hosts, Some("the secret of the tests"))).is_some());
    assert!(read(&sticky("api", &hosts, Some("the secret of the tests"))).is_none());
    assert!(read(&sticky("web", &hosts, Some("another secret of tests"))).is_none());
    assert!(read(&sticky("web", &hosts, None)).is_none());
    assert!(read(&sticky("web", &["a:1"], Some("the secret of the tests"))).is_none());
    let more = ["c:1", "b:1", "a:1"];
    assert!(read(&sticky("web", &more, Some("the secret of the tests"))).is_some());
}

#[test]
fn a_random_key_carries_over_and_a_secret_does_not() {
    let hosts = ["a:1", "b:1"];
    let before = sticky("web", &hosts, None);
    let token = before.token(&HostId::from("b:1"), at(NOW));
    let key = before.random_key().expect("a random key");
    let text = serde_json::to_string(&key).expect("JSON");
    let key: RandomKey = serde_json::from_str(&text).expect("JSON");
    assert_eq!(format!("{key:?}"), "RandomKey");
    let after = sticky("web", &["b:1"], None);
    assert_eq!(after.read(token.as_bytes(), at(NOW)), None);
    after.adopt_key(&key);
    assert!(after.read(token.as_bytes(), at(NOW)).is_some());
    let fixed = sticky("web", &hosts, Some("the secret of the tests"));
    assert_eq!(fixed.random_key(), None);
    fixed.adopt_key(&key);
    assert_eq!(fixed.read(token.as_bytes(), at(NOW)), None);
    assert!(!format!("{fixed:?}").contains("secret of"));
}

#[test]
fn a_token_reveals_no_address() {
    let sticky = sticky("web", &["10.0.0.1:80"], None);
    let token = sticky.token(&HostId::from("10.0.0.1:80"), at(NOW));
    let bytes = BASE64URL.decode(&token).expect("base64url");
    let shows = |needle: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
    assert!(!shows(b"10.0") && !shows(&[10, 0, 0, 1]));
    assert!(
        token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    );
}

proptest! {
    #[test]
    fn a_changed_token_is_invalid(position in 0..TEXT_LENGTH, letter in "[A-Za-z0-9_-]") {
        let sticky = sticky("web", &["a:1"], None);
        let token = sticky.token(&HostId::from("a:1"), at(NOW));
        let mut forged = token.clone();
        forged.replace_range(position..=position, &letter);
        prop_assume!(forged != token);
        prop_assert_eq!(sticky.read(forged.as_bytes(), at(NOW)), None);
        prop_assert_eq!(sticky.read(&token.as_bytes()[..position], at(NOW)), None);
    }

    #[test]
    fn random_bytes_are_no_token(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let sticky = sticky("web", &["a:1"], None);
        prop_assert_eq!(sticky.read(&bytes, at(NOW)), None);
    }

    #[test]
    fn random_bytes_of_the_right_length_are_no_token(bytes in prop::collection::vec(any::<u8>(), TEXT_LENGTH)) {
        let sticky = sticky("web", &["a:1"], None);
        prop_assert_eq!(sticky.read(&bytes, at(NOW)), None);
    }
}
