use rcgen::{CertificateParams, KeyPair};

use super::*;

const DOMAINS: [&str; 3] = ["c.test", "a.test", "b.test"];

/// Writes a new certificate for `domain` with its key.
fn write(directory: &Path, domain: &str) {
    let params = CertificateParams::new(vec![domain.to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let text = certificate.pem() + &key.serialize_pem();
    std::fs::write(directory.join(format!("{domain}.pem")), text).unwrap();
}

fn names(tls: &ListenerTls) -> Vec<&str> {
    let names = tls.all_certificates().flat_map(|it| &it.names);
    names.map(String::as_str).collect()
}

#[test]
fn ordered_certificates_whose_files_vanish_stay_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "listeners: [\"127.0.0.1:80\", {{ address: \"127.0.0.1:443\", tls: {{}} }}]\n\
         acme: {{ domains: [{}], state_directory: {} }}\n\
         pools: {{ a: {{ hosts: [\"127.0.0.1:8081\"] }} }}\n",
        DOMAINS.join(", "),
        folder.path().display()
    );
    let parse = || Config::parse(&yaml, Path::new("ballast.yaml")).unwrap();
    let directory = parse().acme.unwrap().certificates_directory();
    std::fs::create_dir_all(&directory).unwrap();
    DOMAINS.iter().for_each(|domain| write(&directory, domain));
    let watched = Watched::of(&parse());
    assert_eq!(names(&watched.listeners[0].1), DOMAINS);

    let at = crate::timestamp::Timestamp::now().unix_seconds() as i64;
    let scan = || Scan::of(&watched, &SeenFiles::default(), at, at);
    for domain in &DOMAINS[..2] {
        std::fs::remove_file(directory.join(format!("{domain}.pem"))).unwrap();
    }
    let vanished = scan();
    assert!(vanished.listeners.is_empty() && vanished.refused.is_empty());
    write(&directory, "b.test");
    let renewed = scan();
    assert_eq!(names(&renewed.listeners[0].1), DOMAINS);
    assert_eq!(renewed.changes.len(), 1);
    std::fs::remove_dir_all(&directory).unwrap();
    let vanished = scan();
    assert!(vanished.listeners.is_empty() && vanished.refused.is_empty());
}
