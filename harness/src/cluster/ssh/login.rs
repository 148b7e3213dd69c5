//! The transport of one host: its control master, uploads, and the stream to its agent.

use super::host::{Host, setting};
use super::refusal;
use super::sockets::Sockets;
use crate::cluster::{Duplex, Transport};
use anyhow::{Context, bail};
use async_trait::async_trait;
use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder, Stdio};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};

/// How long a host may take to let us in.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);

/// How long a machine may take to boot: some need minutes for their firmware.
const BOOT_TIME_MAX: Duration = Duration::from_secs(240);

/// A control master without a session for this long ends (seconds): nobody else ends it when the controller was killed.
const MASTER_IDLE_MAX: std::num::NonZeroUsize = std::num::NonZeroUsize::new(10).expect("not zero");

/// One host over ssh.
pub(super) struct Ssh {
    pub(super) host: Host,
    /// Position in the cluster.
    pub(super) index: usize,
    pub(super) session: tokio::sync::Mutex<Option<Arc<Session>>>,
    pub(super) sockets: Arc<Sockets>,
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
        if let Some(config) = self.config_file()? {
            builder.config_file(config);
        }
        let session = builder.connect_mux(&host.destination).await;
        session.map_err(|error| anyhow::anyhow!("{}", refusal::connect(host, &sentence(&error))))
    }

    /// The configuration that ssh is given: the user's own, behind what the list of hosts has for this one.
    fn config_file(&self) -> anyhow::Result<Option<PathBuf>> {
        if self.host.options.is_empty() {
            return Ok(self.host.ssh_config.clone());
        }
        let name: String = self.host.name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        let file = self.sockets.path().join(format!("{name}-{}.conf", self.index));
        std::fs::write(&file, config_text(&self.host)).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Some(file))
    }

    /// The address or name that ssh connects to, which an alias hides.
    pub(super) async fn host_name(&self) -> anyhow::Result<String> {
        let mut ssh = tokio::process::Command::new("ssh");
        if let Some(config) = self.config_file()? {
            ssh.arg("-F").arg(config);
        }
        let printed = ssh.arg("-G").arg(&self.host.destination).stdin(std::process::Stdio::null()).output().await;
        let printed = String::from_utf8_lossy(&printed.context("cannot start ssh")?.stdout).into_owned();
        let name = printed.lines().find_map(|line| line.strip_prefix("hostname "));
        Ok(name.unwrap_or(&self.host.destination).to_owned())
    }

    /// Removes what other versions of squall left beside `file`: the disk of a machine of ours is small.
    pub(super) async fn sweep(&self, file: &str, is_root: bool) -> anyhow::Result<()> {
        let Some((dir, name)) = file.rsplit_once('/') else { return Ok(()) };
        let sudo = if is_root { "" } else { "sudo -n " };
        let find = format!("{sudo}find {} -maxdepth 1 -name 'squall-*' ! -name {} -delete", quoted(dir), quoted(name));
        self.output(&find).await.map(|_| ())
    }

    /// Whether this login may do what root may, without being asked for a password.
    pub(super) async fn may_sudo(&self) -> anyhow::Result<()> {
        let asked = "id -un; s=$(sudo -n true 2>&1) && echo sudo || printf '%s\\n' \"$s\" | tail -n 1";
        let said = self.output(asked).await?;
        match said.trim().split_once('\n') {
            Some((_, "sudo")) => Ok(()),
            Some((user, why)) => bail!("{}", refusal::sudo(user, why)),
            None => bail!("it answers `id -un` with `{}`", said.trim()),
        }
    }

    /// Copies a local file there, whatever is there under its name.
    pub(super) async fn put_anew(&self, local: &Path, remote: &str) -> anyhow::Result<()> {
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
             if test $(id -u) = 0 || {{ mkdir -p {dir} 2>/dev/null && test -w {dir}; }}; then put; else \
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
        if !status.success() {
            bail!("{}", refusal::upload(&dir, len, &complaint));
        }
        copied.context("cannot upload squall")?;
        Ok(())
    }

    /// Runs a shell command; what it printed.
    pub(super) async fn output(&self, command: &str) -> anyhow::Result<String> {
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
pub(super) fn quoted(text: &str) -> String {
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
            .stderr(Stdio::piped())
            .spawn()
            .await
            .map_err(|error| anyhow::anyhow!("cannot start the agent: {}", sentence(&error)))?;
        if let Some(stderr) = child.stderr().take() {
            tokio::spawn(pass_on(self.host.name.clone(), stderr));
        }
        let writer = child.stdin().take().context("no stdin")?;
        let reader = child.stdout().take().context("no stdout")?;
        Ok(Duplex { writer: Box::new(writer), reader: Box::new(reader), keep: Box::new(child) })
    }
}

/// Prints what an agent complains about: whole lines, which those of other agents do not run into, and whose they are.
async fn pass_on(node: String, complaints: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(complaints).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // Where sudo refuses, the error says so, and what to do.
        if !line.starts_with("sudo: ") {
            eprintln!("{node}: {line}");
        }
    }
}

/// An ssh_config for one host: its own settings, then the file that would have counted. What is said of keys holds for jump hosts, too,
/// which are reached by an ssh of their own with the same file.
fn config_text(host: &Host) -> String {
    let mut text = format!("Host {}\n", host.destination);
    for (key, value) in host.options.iter().filter_map(|option| setting(option)) {
        text += &format!("  {key} {value}\n");
    }
    // Nobody answers questions.
    text += "Match all\n  BatchMode yes\n";
    if let Some(identity) = &host.identity {
        text += &format!("  IdentityFile \"{}\"\n", identity.display());
    }
    if let Some(file) = &host.known_hosts_file {
        text += &format!("  UserKnownHostsFile \"{}\"\n", file.display());
    }
    if host.known_hosts == "accept-new" {
        text += "  StrictHostKeyChecking accept-new\n";
    }
    text + &match &host.ssh_config {
        Some(file) => format!("Include \"{}\"\n", file.display()),
        None => "Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Doc, Section};

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("a'b c"), r"'a'\''b c'");
    }

    #[test]
    fn settings_of_a_host_come_before_those_of_the_user() {
        let keys = "{ host: db, identity: k, known_hosts: accept-new, jump: me@gate, options: [Compression=yes] }";
        let mut section = Section::new("hosts.0", Doc::parse("f", keys).unwrap()).unwrap();
        let mut host = super::super::host::read(&mut section, 0, Path::new("/lab")).unwrap();
        let expected = "Host db\n  Compression yes\n  ProxyJump me@gate\nMatch all\n  BatchMode yes\n  IdentityFile \"/lab/k\"\n  \
                        StrictHostKeyChecking accept-new\nInclude ~/.ssh/config\nInclude /etc/ssh/ssh_config\n";
        assert_eq!(config_text(&host), expected);
        host.ssh_config = Some("/my config".into());
        assert!(config_text(&host).ends_with("\nInclude \"/my config\"\n"));
    }
}
