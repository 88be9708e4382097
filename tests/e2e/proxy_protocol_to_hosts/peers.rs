//! nginx and HAProxy as hosts that take the client from the header.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{VERSIONS, client_from, secure_listener, told};
use crate::support::{Authority, Client, SOON, Setup, file, free, peer, wait_until};

/// A child process that is killed at the end of the test.
struct Server(Child);

impl Server {
    /// Runs a program until it listens at `address`.
    fn start(command: &mut Command, address: SocketAddr) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Server(
            command
                .spawn()
                .expect("an installed program can be started"),
        );
        wait_until(SOON, "the server listens", || {
            Client::try_connect(address).is_ok()
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The certificate of `host.test` and its key in one file, as HAProxy wants it.
fn write_identity(folder: &Path, authority: &Authority) {
    let identity = authority.issue(&["host.test"]);
    identity.write(folder, "host");
    file(folder, "host.pem", &(identity.pem() + &identity.key_pem()));
    authority.write(folder, "ca.pem");
}

/// A pool of one host, without and with TLS.
fn pools(hosts: [SocketAddr; 2], folder: &Path, version: &str) -> [Setup; 2] {
    let [plain, secure] = hosts.map(|host| {
        Setup::of(&[])
            .host(host)
            .pool(&format!("proxy_protocol: {version}"))
    });
    let ca = folder.join("ca.pem");
    let tls = format!("tls: {{ server_name: host.test, ca: {} }}", ca.display());
    [plain, secure.pool(&tls)]
}

#[test]
fn nginx_as_a_host_sees_the_client() {
    let Some(program) = peer("nginx") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path();
    write_identity(path, &Authority::new("hosts"));
    let hosts = [free(), free()];
    let answer = "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port";
    let config = format!(
        "daemon off;\nmaster_process off;\npid {0}/nginx.pid;\nerror_log {0}/error.log;\nevents {{}}\n\
         http {{\n  access_log off;\n  client_body_temp_path {0}/a;\n  proxy_temp_path {0}/b;\n  fastcgi_temp_path {0}/c;\n  \
         uwsgi_temp_path {0}/d;\n  scgi_temp_path {0}/e;\n  server {{\n    listen {1} proxy_protocol;\n    \
         listen {2} ssl proxy_protocol;\n    ssl_certificate {0}/host.crt;\n    ssl_certificate_key {0}/host.key;\n    \
         location / {{ return 200 \"{answer}\"; }}\n  }}\n}}\n",
        path.display(),
        hosts[0],
        hosts[1]
    );
    let config = file(path, "nginx.conf", &config);
    let mut command = Command::new(program);
    let _nginx = Server::start(command.arg("-p").arg(path).arg("-c").arg(config), hosts[0]);
    for version in VERSIONS {
        for setup in pools(hosts, path, version) {
            let ballast = setup.health("{ type: http, path: / }").start();
            let mut client = client_from(71, &ballast);
            let expected = told("", &client, &ballast);
            for _ in 0..2 {
                assert_eq!(client.get("/").text(), expected.trim_start());
            }
        }
    }
    let log = fs::read_to_string(path.join("error.log")).unwrap_or_default();
    assert!(!log.contains("broken header"), "{log}");
}

#[test]
fn haproxy_as_a_host_sees_the_client() {
    let Some(program) = peer("haproxy") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path();
    let servers = Authority::new("hosts");
    write_identity(path, &servers);
    let hosts = [free(), free()];
    let config = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 3s\n\
         frontend web\n  bind {} accept-proxy\n  bind {} accept-proxy ssl crt {}/host.pem\n  \
         http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port] %[dst]:%[dst_port] %[fc_pp_authority]\"\n",
        hosts[0],
        hosts[1],
        path.display()
    );
    let config = file(path, "haproxy.cfg", &config);
    let mut command = Command::new(program);
    let _haproxy = Server::start(command.arg("-db").arg("-f").arg(config), hosts[0]);
    for version in VERSIONS {
        for setup in pools(hosts, path, version) {
            let ballast = setup.health("{ type: http, path: / }").start();
            let mut client = client_from(71, &ballast);
            let expected = told("", &client, &ballast);
            for _ in 0..2 {
                assert_eq!(client.get("/").text().trim_end(), expected.trim_start());
            }
        }
    }
    let listener = secure_listener(path, &servers, &servers);
    let [setup, _] = pools(hosts, path, "v2");
    let ballast = setup.top(&listener).start();
    let client = Client::tls(ballast.address(), "test", servers.client());
    let mut client = client.expect("connected");
    let expected = format!("{} test", told("", &client, &ballast));
    assert_eq!(client.get("/").text(), expected.trim_start());
}
