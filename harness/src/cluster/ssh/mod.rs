//! Any hosts over ssh, from a hosts file or a list of hosts that people have already (`sources`, `inventory`).
//!
//! Uses the system's ssh (one control master per host), so the user's own configuration, agents and jump hosts work. Two
//! channels a host: uploads, one after another, and the agent; so `MaxSessions` is never in the way. This program is
//! uploaded once, under a name that carries its content's hash.

mod host;
pub mod inventory;
mod login;
pub mod program;
mod refusal;
mod sockets;
mod sources;

pub(super) use host::Host;

use super::{Cluster, Control, Network, Node};
use crate::config::{ConfigError, KeyDoc};
use crate::labels::Labels;
use anyhow::{Context, bail};
use login::{Ssh, quoted};
use sha2::{Digest, Sha256};
use sockets::Sockets;
use squall_checkers::Sym;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Names of the hosts in a file and where they are, without connecting to any.
///
/// # Errors
/// File, line and key of what is wrong.
pub fn host_names(file: &Path) -> Result<(Vec<String>, Labels), ConfigError> {
    let hosts = sources::read_hosts(file)?;
    let labels = sources::labels(&hosts, file)?;
    Ok((hosts.into_iter().map(|host| host.name).collect(), labels))
}

/// The keys of a hosts file, for people.
pub fn keys() -> Vec<KeyDoc> {
    sources::keys()
}

/// Logs in everywhere, uploads `program`, starts the agents.
///
/// # Errors
/// With the host and, where ssh says so, the reason.
pub async fn up(hosts: &Path, program: &Path, lease: Duration) -> anyhow::Result<Cluster> {
    up_hosts(sources::read_hosts(hosts)?, program, lease).await
}

/// The same with hosts that come from elsewhere.
///
/// # Errors
/// With the host and, where ssh says so, the reason.
pub(super) async fn up_hosts(hosts: Vec<Host>, program: &Path, lease: Duration) -> anyhow::Result<Cluster> {
    let content = tokio::fs::read(program).await.with_context(|| format!("cannot read {}", program.display()))?;
    let made_for = program::architecture(&content)
        .with_context(|| format!("{} cannot be uploaded: it is no program for Linux", program.display()))?;
    let hash: String = Sha256::digest(&content).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    drop(content);
    let sockets = Arc::new(Sockets::new()?);
    let nodes = hosts.iter().enumerate().map(|(index, host)| {
        let file = format!("{}/bin/squall-{hash}", host.root);
        let sockets = sockets.clone();
        async move {
            let session = tokio::sync::Mutex::default();
            let transport = Arc::new(Ssh { host: host.clone(), index, session, sockets });
            let up = node_up(index, transport, program, made_for, file, lease).await;
            up.with_context(|| format!("cannot use host {} ({})", host.name, host.destination))
        }
    });
    let nodes = futures::future::try_join_all(nodes).await?;
    let mut addresses = BTreeSet::new();
    if let Some(twice) = nodes.iter().find(|node| !addresses.insert(node.address)) {
        bail!("two hosts have the data address {}: give each its own `address`", twice.address);
    }
    Ok(Cluster { nodes, network: Network::PerNode, power: None, keep: Box::new(()) })
}

async fn node_up(
    index: usize,
    transport: Arc<Ssh>,
    program: &Path,
    made_for: &str,
    file: String,
    lease: Duration,
) -> anyhow::Result<Arc<Node>> {
    let host = transport.host.clone();
    // In one word to the host: each takes a while on a slow one, and `sudo` most of it.
    let ask = format!("uname -sm; id -u; stat -c %s {} 2>/dev/null || echo none", quoted(&file));
    let said = transport.output(&ask).await?;
    let [arch, uid, there] = said.lines().map(str::trim).collect::<Vec<_>>()[..] else {
        bail!("it answers a shell command with `{}`: its shell must be silent when it starts", said.trim());
    };
    let ours = format!("Linux {made_for}");
    if arch != ours {
        bail!(
            "it is {arch}, and {} is built for {ours}: build squall for it, and name that program in {}",
            program.display(),
            program::VARIABLE
        );
    }
    let is_root = uid == "0";
    if there != tokio::fs::metadata(program).await?.len().to_string() {
        if !is_root {
            transport.may_sudo().await?;
        }
        transport.put_anew(program, &file).await?;
        let runs = transport.output(&format!("{} --version", quoted(&file))).await;
        runs.map_err(|error| anyhow::anyhow!("{}", refusal::does_not_run(&error.to_string())))?;
        if host.is_ours {
            transport.sweep(&file, is_root).await?;
        }
    }
    let mut argv: Vec<String> = Vec::new();
    if !is_root {
        argv.extend(["sudo", "-n"].map(str::to_owned));
    }
    argv.extend([file.as_str(), "agent", "serve", "--root", &host.root].map(str::to_owned));
    let connected = Control::connect(&host.name, transport.clone(), argv, lease).await;
    if connected.is_err() && !is_root {
        // That says more than an agent that ended.
        transport.may_sudo().await?;
    }
    let (control, hello) = connected?;
    let address = match host.address {
        Some(address) => address,
        None => resolve(&transport.host_name().await?).await?,
    };
    if !hello.addresses.contains(&address) {
        bail!(
            "{address} is not an address of this host; set `address` in the hosts file to one of {:?}",
            hello.addresses
        );
    }
    Ok(Arc::new(Node { name: Sym::new(&host.name), index, address, root: hello.root.clone(), program: file, control }))
}

async fn resolve(name: &str) -> anyhow::Result<IpAddr> {
    let mut found = tokio::net::lookup_host((name, 0))
        .await
        .with_context(|| format!("cannot resolve `{name}`; set `address` in the hosts file"))?;
    Ok(found.next().with_context(|| format!("`{name}` has no address; set `address` in the hosts file"))?.ip())
}
