//! Reads and changes of keys; TLS and users.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Followed, SHORT, client, client_at};
use crate::etcd::{EtcdError, Swap};
use crate::test_support::{Etcd, PASSWORD};

#[tokio::test]
async fn a_key_is_created_once_and_replaced_as_it_was_read() {
    let Some(etcd) = Etcd::start() else { return };
    let client = client(&etcd.section(""));
    assert_eq!(client.get("/a").await, Ok(None));
    let Ok(Swap::Done(first)) = client.create("/a", "1", None).await else {
        panic!("it is absent");
    };
    let Ok(Swap::Conflict(Some(found))) = client.create("/a", "2", None).await else {
        panic!("it is there");
    };
    assert_eq!((&*found.value, found.mod_revision), (&b"1"[..], first));
    let replaced = client.replace("/a", "2", first, None).await;
    assert!(matches!(replaced, Ok(Swap::Done(second)) if second > first));
    let replaced = client.replace("/a", "3", first, None).await;
    assert!(matches!(replaced, Ok(Swap::Conflict(Some(_)))));
    assert_eq!(client.delete("/a").await, Ok(true));
    assert_eq!(client.delete("/a").await, Ok(false));
    let replaced = client.replace("/a", "3", first, None).await;
    assert_eq!(replaced, Ok(Swap::Conflict(None)));
}

#[tokio::test]
async fn tls_with_a_certificate_of_the_client() {
    let Some(etcd) = Etcd::start_with_tls() else {
        return;
    };
    let known = client(&etcd.section(""));
    known.put("/a", "1", None).await.expect("written");
    let mut followed = Followed::start(&known, "/a");
    followed.until_values(&["1"]).await;
    let address = etcd.address(0);
    let ca = etcd.file("ca.pem").display().to_string();
    let unknown = client(&format!(
        "{{ endpoints: [\"https://{address}\"], tls: {{ ca: \"{ca}\" }}, {SHORT} }}"
    ));
    let error = unknown.get("/a").await.expect_err("it has no certificate");
    assert!(matches!(error, EtcdError::Unavailable(_)), "{error}");
    let other_name = client(&format!(
        "{{ endpoints: [\"https://{address}\"], tls: {{ ca: \"{ca}\", server_name: other.test }}, {SHORT} }}"
    ));
    let error = other_name.get("/a").await.expect_err("another name");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_token_that_etcd_has_forgotten_is_renewed() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    etcd.enable_users();
    let user = |password: &str| {
        let file = etcd.file(password);
        fs::write(&file, password).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        format!("user: root, password_file: \"{}\", {SHORT}", file.display())
    };
    let (right, wrong) = (user(PASSWORD), user("other"));
    let known = client_at(&[etcd.address(0)], &right);
    known.put("/a", "1", None).await.expect("written");
    let mut followed = Followed::start(&known, "/a");
    followed.until_values(&["1"]).await;
    // Tokens are forgotten.
    etcd.kill(0);
    etcd.restart(0);
    known.put("/a", "2", None).await.expect("written");
    followed.until_values(&["2"]).await;
    for more in [&wrong, SHORT] {
        let unknown = client_at(&[etcd.address(0)], more);
        let error = unknown.get("/a").await.expect_err(more);
        assert!(matches!(error, EtcdError::Refused(_)), "{error}");
    }
}
