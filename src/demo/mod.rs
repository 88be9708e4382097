//! The demo: three hosts within the process, a configuration that balances over them, and the dashboard to watch it.

mod hosts;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::{Config, ConfigErrors, Secret};

pub use hosts::start as start_hosts;

/// Where the demo can be reached.
#[derive(Debug, Clone, clap::Args)]
pub struct Addresses {
    /// Where to take requests
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where to show the dashboard
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
}

/// What to try, for people.
pub fn guide(Addresses { listen, admin }: &Addresses, token: &str) -> String {
    format!(
        "\
ballast demo: three hosts, red, green and blue, behind http://{listen}

  dashboard: http://{admin}/#token={token}

  curl {listen}                                      again and again: they take turns
  for i in 1 2 3 4 5 6 7 8 9; do curl -s {listen}; done     three each
  curl -i {listen}/any/path                          what a host is told about you
  curl -X POST {listen}/stop                         whoever gets it stops for 30 seconds
  wrk -c 64 -d 60 http://{listen}/                   under load

Ctrl-C ends it."
    )
}

/// What the dashboard has to know in order to change something; another one each time.
///
/// # Errors
/// If the system gives no random numbers.
pub fn token() -> Result<String, ring::error::Unspecified> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The demo's configuration: a file like any other, but for the token, which is nowhere else.
///
/// # Errors
/// If `hosts` is empty, or both addresses are one.
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
