//! The demo: three hosts inside the process, a configuration that balances requests over them, and the dashboard.

mod hosts;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::{Config, ConfigErrors, Secret};

pub use hosts::start as start_hosts;

/// The addresses of the demo.
#[derive(Debug, Clone, clap::Args)]
pub struct Addresses {
    /// The address to listen on for requests
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The address of the dashboard
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
}

/// The text that the demo prints: the dashboard and some commands to try.
pub fn guide(Addresses { listen, admin }: &Addresses, token: &str) -> String {
    format!(
        "\
ballast demo: three hosts, red, green and blue, behind http://{listen}

  dashboard: http://{admin}/#token={token}

  curl {listen}                                      repeat it: the hosts take turns
  for i in 1 2 3 4 5 6 7 8 9; do curl -s {listen}; done     three each
  curl -i {listen}/any/path                          what a host learns about the client
  curl -X POST {listen}/stop                         the host that gets it stops for 30 seconds
  wrk -c 64 -d 60 http://{listen}/                   under load

Press Ctrl-C to stop."
    )
}

/// A new random token, which the dashboard needs to make changes.
///
/// # Errors
/// The system returns no random numbers.
pub fn token() -> Result<String, ring::error::Unspecified> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The configuration of the demo. The token exists only in memory.
///
/// # Errors
/// `hosts` is empty, or both addresses are the same.
pub fn config(
    hosts: &[(&str, SocketAddr)],
    Addresses { listen, admin }: &Addresses,
    token: &str,
) -> Result<Config, ConfigErrors> {
    let hosts = hosts
        .iter()
        .map(|(name, address)| format!("{{ address: \"{address}\", name: {name} }}"));
    let hosts = Vec::from_iter(hosts);
    let text = format!(
        "listeners: [\"{listen}\"]\n\
         admin: {{ address: \"{admin}\" }}\n\
         pools:\n  \
           demo:\n    \
             algorithm: round_robin\n    \
             hosts: [{}]\n",
        hosts.join(", ")
    );
    let mut config = Config::parse(&text, Path::new("demo"))?;
    config.admin.token_file = Some(Secret {
        file: PathBuf::from("demo"),
        bytes: token.as_bytes().to_vec(),
    });
    Ok(config)
}
