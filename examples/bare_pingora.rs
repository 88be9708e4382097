//! The least that a Pingora proxy can do: one host, no filters, no timeouts. It shows what of Ballast's CPU per request
//! is Pingora's own:
//!
//! ```text
//! cargo build --release --example bare_pingora
//! benches/cpu_per_request.py --ballast target/release/examples/bare_pingora
//! ```
//!
//! It takes the arguments of `ballast run -c FILE`, and from the file the first listener and the first host.

use std::path::Path;
use std::process::ExitCode;

use async_trait::async_trait;
use ballast::config::Config;
use pingora::Result;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare(HttpPeer);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }
}

fn main() -> ExitCode {
    let file = std::env::args().nth(3).unwrap_or_default();
    let config = match Config::load(Path::new(&file)) {
        Ok(config) => config,
        Err(errors) => {
            println!("{errors}");
            return ExitCode::from(2);
        }
    };
    let conf = ServerConf {
        threads: config.server.threads,
        work_stealing: config.server.threads > 1,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let address = config.pools[0].members[0]
        .address
        .as_inet()
        .expect("an IP address");
    let host = HttpPeer::new(address, false, String::new());
    let mut service = http_proxy_service(&server.configuration, Bare(host));
    service.add_tcp(&config.listeners[0].address.to_string());
    server.add_service(service);
    server.run_forever()
}
