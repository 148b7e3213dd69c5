//! Any hosts over ssh, listed in a YAML file.
//!
//! Uses the system's ssh (one control master per host), so the user's own configuration, agents and jump hosts work. Two
//! channels a host: uploads, one after another, and the agent; so `MaxSessions` is never in the way. This program is
//! uploaded once, under a name that carries its content's hash.

pub mod inventory;
pub mod program;
mod sockets;

use super::{Cluster, Control, Duplex, Network, Node, Transport};
use crate::config::{ConfigError, Doc, DocNode, KeyDoc, Section, describe, unknown};
use crate::labels::Labels;
use anyhow::{Context, bail};
use async_trait::async_trait;
use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder, Stdio};
use sha2::{Digest, Sha256};
use sockets::Sockets;
use squall_checkers::Sym;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a host may take to let us in.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);

/// How long a machine may take to boot: some need minutes for their firmware.
const BOOT_TIME_MAX: Duration = Duration::from_secs(240);

/// A control master without a session for this long ends (seconds): nobody else ends it when the controller was killed.
const MASTER_IDLE_MAX: std::num::NonZeroUsize = std::num::NonZeroUsize::new(10).expect("not zero");

/// One host of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) destination: String,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) identity: Option<PathBuf>,
    /// Data-plane address; `None` is what the host's name resolves to.
    pub(super) address: Option<IpAddr>,
    pub(super) root: String,
    pub(super) known_hosts: String,
    pub(super) known_hosts_file: Option<PathBuf>,
    pub(super) ssh_config: Option<PathBuf>,
    /// Nobody but us uses it: what earlier versions of squall left there is removed.
    pub(super) is_ours: bool,
}

/// Names of the hosts in a file and where they are, without connecting to any.
///
/// # Errors
/// File, line and key of what is wrong.
pub fn host_names(file: &Path) -> Result<(Vec<String>, Labels), ConfigError> {
    Ok((read_hosts(file)?.into_iter().map(|host| host.name).collect(), Labels::default()))
}

/// The keys of a hosts file, for people.
pub fn keys() -> Vec<KeyDoc> {
    describe("hosts.N", |section| read_host(section, 0, Path::new("."))).unwrap_or_default()
}

fn read_hosts(file: &Path) -> Result<Vec<Host>, ConfigError> {
    let shown = file.display().to_string();
    let failed = |what: String| ConfigError { origin: shown.clone(), what };
    let text = std::fs::read_to_string(file).map_err(|e| failed(format!("cannot read the hosts file: {e}")))?;
    let mut top = Section::new("", Doc::parse(&shown, &text)?)?;
    let list = top.raw("hosts", "list", "the hosts")?;
    // A misspelt key explains a missing one.
    top.finish()?;
    let Some(list) = list else {
        return Err(failed("a hosts file needs a key `hosts`: a list of hosts".to_owned()));
    };
    let DocNode::List(items) = list.node else {
        return Err(ConfigError::at(&list.origin, "`hosts` must be a list"));
    };
    let base = file.parent().unwrap_or(Path::new("."));
    let mut hosts = Vec::new();
    let mut names = BTreeSet::new();
    for (number, item) in items.into_iter().enumerate() {
        let item = match item.node {
            // Just a name: everything else is in the user's ssh_config.
            DocNode::Scalar(ref name) if !name.is_empty() => {
                let entry = ("host".to_owned(), item.clone());
                Doc { node: DocNode::Map(vec![entry]), origin: item.origin.clone() }
            }
            _ => item,
        };
        let mut section = Section::new(&format!("hosts.{number}"), item)?;
        let host = read_host(&mut section, number, base)?;
        if !names.insert(host.name.clone()) {
            return Err(section.error(format!("two hosts are called `{}`", host.name)));
        }
        section.finish()?;
        hosts.push(host);
    }
    if hosts.is_empty() {
        return Err(failed("there is no host in the list".to_owned()));
    }
    Ok(hosts)
}

fn read_host(section: &mut Section, number: usize, base: &Path) -> Result<Host, ConfigError> {
    let path = |path: String| base.join(path);
    let destination = section.required("host", "HOST".to_owned(), "address or name, or an alias of ssh_config")?;
    let name = section.get("name", format!("n{}", number + 1), "what it is called in tests and results")?;
    let port = section.optional::<u16>("port", "port of sshd (default: ssh's)")?;
    let user = section.optional::<String>("user", "login (default: ssh's); without root rights `sudo -n` must work")?;
    let identity = section.optional::<String>("identity", "private key file (default: ssh's)")?.map(path);
    let address =
        section.optional::<String>("address", "data-plane address that faults may cut (default: that of `host`)")?;
    let root = section.get("root", "/var/lib/squall".to_owned(), "absolute folder in which squall may write")?;
    let known_hosts = section.get("known_hosts", "strict".to_owned(), "strict, or accept-new")?;
    let known_hosts_file = section.optional::<String>("known_hosts_file", "instead of ssh's own")?.map(path);
    let ssh_config = section.optional::<String>("ssh_config", "configuration file for ssh (default: ssh's)")?.map(path);
    if !root.starts_with('/') || root == "/" {
        return Err(section.error(format!("`root` must be an absolute folder of squall's own, not `{root}`")));
    }
    if !["strict", "accept-new"].contains(&known_hosts.as_str()) {
        return Err(section.error(unknown("value of known_hosts", &known_hosts, ["strict", "accept-new"])));
    }
    let address = match address.map(|text| text.parse::<IpAddr>().map_err(|_| text)).transpose() {
        Ok(address) => address,
        Err(text) => return Err(section.error(format!("`address` must be an IP address, not `{text}`"))),
    };
    Ok(Host {
        name,
        destination,
        port,
        user,
        identity,
        address,
        root,
        known_hosts,
        known_hosts_file,
        ssh_config,
        is_ours: false,
    })
}

/// Logs in everywhere, uploads `program`, starts the agents.
///
/// # Errors
/// With the host and, where ssh says so, the reason.
pub async fn up(hosts: &Path, program: &Path, lease: Duration) -> anyhow::Result<Cluster> {
    up_hosts(read_hosts(hosts)?, program, lease).await
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
            let transport = Arc::new(Ssh { host: host.clone(), session, sockets });
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
        transport.output(&format!("{} --version", quoted(&file))).await.with_context(|| program::DOES_NOT_RUN)?;
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
        None => resolve(&host.destination).await?,
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

struct Ssh {
    host: Host,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    sockets: Arc<Sockets>,
}

impl Ssh {
    /// The open session, or a new one when it broke.
    async fn session(&self) -> anyhow::Result<Arc<Session>> {
        let mut slot = self.session.lock().await;
        if let Some(session) = &*slot
            && session.check().await.is_ok()
        {
            return Ok(session.clone());
        }
        let session = Arc::new(self.connect().await?);
        *slot = Some(session.clone());
        Ok(session)
    }

    async fn connect(&self) -> anyhow::Result<Session> {
        let host = &self.host;
        let mut builder = SessionBuilder::default();
        builder.connect_timeout(CONNECT_TIME_MAX).server_alive_interval(Duration::from_secs(5));
        builder.control_directory(self.sockets.path()).control_persist(ControlPersist::IdleFor(MASTER_IDLE_MAX));
        builder.known_hosts_check(match host.known_hosts.as_str() {
            "accept-new" => KnownHosts::Add,
            _ => KnownHosts::Strict,
        });
        if let Some(user) = &host.user {
            builder.user(user.clone());
        }
        if let Some(port) = host.port {
            builder.port(port);
        }
        if let Some(identity) = &host.identity {
            if !identity.is_file() {
                bail!("the key {} is not there", identity.display());
            }
            builder.keyfile(identity);
        }
        if let Some(file) = &host.known_hosts_file {
            builder.user_known_hosts_file(file);
        }
        if let Some(config) = &host.ssh_config {
            builder.config_file(config);
        }
        builder.connect_mux(&host.destination).await.map_err(|error| self.refused(&sentence(&error)))
    }

    /// Why we were not let in, and what to do about it where that is known.
    fn refused(&self, why: &str) -> anyhow::Error {
        let name = &self.host.destination;
        let file = match &self.host.known_hosts_file {
            Some(file) => format!(" -f {}", file.display()),
            None => String::new(),
        };
        if why.contains("IDENTIFICATION HAS CHANGED") {
            return anyhow::anyhow!(
                "its host key is not the one that was seen before: somebody else answers there, or it was installed anew; if you \
                 know which, forget the old key: ssh-keygen -R {name}{file}"
            );
        }
        anyhow::anyhow!("{why}")
    }

    /// Removes what other versions of squall left beside `file`: the disk of a machine of ours is small.
    async fn sweep(&self, file: &str, is_root: bool) -> anyhow::Result<()> {
        let Some((dir, name)) = file.rsplit_once('/') else { return Ok(()) };
        let sudo = if is_root { "" } else { "sudo -n " };
        let find = format!("{sudo}find {} -maxdepth 1 -name 'squall-*' ! -name {} -delete", quoted(dir), quoted(name));
        self.output(&find).await.map(|_| ())
    }

    /// Whether this login may do what root may, without being asked for a password.
    async fn may_sudo(&self) -> anyhow::Result<()> {
        let sudo = self.output("sudo -n true 2>/dev/null && echo sudo || echo none").await?;
        if sudo.trim() != "sudo" {
            bail!("the login is not root and `sudo -n` does not work: allow it (NOPASSWD), or log in as root");
        }
        Ok(())
    }

    /// Copies a local file there, whatever is there under its name.
    async fn put_anew(&self, local: &Path, remote: &str) -> anyhow::Result<()> {
        let len = tokio::fs::metadata(local).await?.len();
        let session = self.session().await?;
        let dir = remote.rsplit_once('/').map_or("/", |(dir, _)| dir);
        let temporary = format!("{remote}.{}.tmp", std::process::id());
        let (dir, temporary, remote) = (quoted(dir), quoted(&temporary), quoted(remote));
        // Synced, content before name: after a power cut there must not be half a program under the right name.
        let write = format!(
            "cat > {temporary} && chmod 755 {temporary} && sync {temporary} && mv {temporary} {remote} && sync {dir}"
        );
        // Where the login may not write, root may.
        let script = format!(
            "set -e; put() {{ mkdir -p {dir} && {write}; }}; \
             if mkdir -p {dir} 2>/dev/null && test -w {dir}; then put; else \
             sudo -n mkdir -p {dir} && sudo -n sh -c \"{write}\"; fi"
        );
        let failed = |error: openssh::Error| anyhow::anyhow!("cannot upload squall: {}", sentence(&error));
        let mut child = session
            .raw_command(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .await
            .map_err(failed)?;
        let mut stdin = child.stdin().take().context("no stdin")?;
        let mut file = tokio::fs::File::open(local).await?;
        // A full disk shows as a broken pipe here; the reason is on stderr.
        let copied = tokio::io::copy(&mut file, &mut stdin).await;
        let _ = stdin.shutdown().await;
        drop(stdin);
        let mut complaint = String::new();
        if let Some(mut stderr) = child.stderr().take() {
            stderr.read_to_string(&mut complaint).await?;
        }
        let status = child.wait().await.map_err(failed)?;
        if complaint.contains("No space left") {
            bail!(
                "cannot upload squall: the disk there is full: make room for {} MB below {dir}",
                len.div_ceil(1_000_000)
            );
        }
        if !status.success() {
            bail!("cannot upload squall: {}", complaint.trim().lines().last().unwrap_or("no reason given"));
        }
        copied.context("cannot upload squall")?;
        Ok(())
    }

    /// Runs a shell command; what it printed.
    async fn output(&self, command: &str) -> anyhow::Result<String> {
        let session = self.session().await?;
        let output = session.raw_command(command).output().await.map_err(|e| anyhow::anyhow!("{}", sentence(&e)))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("`{command}` failed: {}", why.trim().lines().last().unwrap_or("no reason given"));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The whole chain in one line: ssh's own words are at its end.
fn sentence(error: &openssh::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    // ssh frames some of its warnings.
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("@@@")).collect::<Vec<_>>().join(" ")
}

/// `text` as one word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[async_trait]
impl Transport for Ssh {
    async fn put(&self, local: &Path, remote: &str) -> anyhow::Result<()> {
        let len = tokio::fs::metadata(local).await?.len();
        let there = self.output(&format!("stat -c %s {} 2>/dev/null || echo none", quoted(remote))).await?;
        if there.trim() == len.to_string() { Ok(()) } else { self.put_anew(local, remote).await }
    }

    async fn disconnect(&self) {
        // Ends its control master as soon as nobody uses it any more.
        self.session.lock().await.take();
    }

    fn boot_time_max(&self) -> Duration {
        BOOT_TIME_MAX
    }

    async fn open(&self, argv: &[String]) -> anyhow::Result<Duplex> {
        let session = self.session().await?;
        let command = argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let mut child = session
            .arc_raw_command(format!("exec {command}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .await
            .map_err(|error| anyhow::anyhow!("cannot start the agent: {}", sentence(&error)))?;
        let writer = child.stdin().take().context("no stdin")?;
        let reader = child.stdout().take().context("no stdout")?;
        Ok(Duplex { writer: Box::new(writer), reader: Box::new(reader), keep: Box::new(child) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Result<Vec<Host>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts.yaml");
        std::fs::write(&file, text).unwrap();
        read_hosts(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_hosts_file() {
        let read =
            hosts("hosts:\n  - alias\n  - { name: db, host: 10.0.0.2, port: 2222, address: 10.1.0.2 }\n").unwrap();
        assert_eq!((read[0].name.as_str(), read[0].destination.as_str()), ("n1", "alias"));
        assert_eq!((read[1].port, read[1].address), (Some(2222), Some("10.1.0.2".parse().unwrap())));
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("hosts: []", "there is no host"),
            ("hots: [a]", "hots"),
            ("hosts: [ { name: a } ]", "host"),
            ("hosts: [ { host: a, root: tmp } ]", "absolute folder"),
            ("hosts: [ { host: a, address: b } ]", "must be an IP address"),
            ("hosts: [ { host: a, name: x }, { host: b, name: x } ]", "two hosts are called `x`"),
        ];
        for (text, expected) in table {
            let error = hosts(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("a'b c"), r"'a'\''b c'");
    }
}
