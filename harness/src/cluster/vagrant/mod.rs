//! A cluster of virtual machines that Vagrant keeps: brought up when a run needs it, left as it is when it was up already.
//!
//! Nodes are reached over ssh with what `vagrant ssh-config` says, on Vagrant's own network; faults hit the data network only,
//! whose addresses `cluster.yaml` fixes. What was learned is kept beside Vagrant's own files (`.vagrant/squall`), so that a run on
//! machines that are up needs no Vagrant at all, which takes seconds for every word.
//!
//! Power is switched by libvirt where it is there; otherwise machines reset themselves.

mod cli;
mod kvm;
mod power;
mod settings;

pub use settings::{Settings, names};

use super::Cluster;
use super::ssh::inventory::ssh_config::{self, SshConfigHost};
use super::ssh::{self, Host};
use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;

/// Where squall may write on a machine.
const ROOT: &str = "/var/lib/squall";

/// A machine that is up takes a connection within this.
const DIAL_TIME_MAX: Duration = Duration::from_secs(2);

/// What a person is told meanwhile.
pub type Say<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// The machines of one folder with a Vagrantfile, for one run or command at a time.
pub struct Machines {
    folder: PathBuf,
    settings: Settings,
    /// As many as are wanted, by name.
    names: Vec<String>,
    /// Those that were made here and go with [`Machines::end`].
    made: Mutex<Vec<String>>,
    _lock: Flock<File>,
}

impl Machines {
    /// Those that a test needs: the first `nodes`, or all of `cluster.yaml`.
    ///
    /// # Errors
    /// When the folder has no Vagrantfile or a bad `cluster.yaml`, or somebody else uses its machines.
    pub fn open(folder: &Path, nodes: Option<usize>) -> anyhow::Result<Self> {
        let settings = Settings::read(folder)?;
        let names = names(nodes.unwrap_or(settings.nodes));
        let folder = folder.canonicalize().with_context(|| format!("cannot use {}", folder.display()))?;
        let own = own_folder(&folder);
        fs::create_dir_all(&own).with_context(|| format!("cannot create {}", own.display()))?;
        let path = own.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            bail!("another squall uses the machines of {}: wait until it is done", folder.display());
        };
        Ok(Self { folder, settings, names, made: Mutex::default(), _lock: lock })
    }

    /// Makes and boots what is not there, logs in everywhere, uploads `program`, starts the agents.
    ///
    /// # Errors
    /// With what is missing, and what to do.
    pub async fn up(&self, program: &Path, lease: Duration, say: Say<'_>) -> anyhow::Result<Cluster> {
        self.up_first(self.names.len(), program, lease, say).await
    }

    /// The same, with a session on the first `nodes` of them only.
    ///
    /// # Errors
    /// With what is missing, and what to do.
    pub async fn up_first(
        &self,
        nodes: usize,
        program: &Path,
        lease: Duration,
        say: Say<'_>,
    ) -> anyhow::Result<Cluster> {
        if !self.all_answer().await {
            self.boot(say).await?;
        }
        say("logging in");
        let (mut hosts, mut ids) = (self.hosts()?, self.ids());
        hosts.truncate(nodes);
        ids.truncate(nodes);
        let mut cluster = ssh::up_hosts(hosts, program, lease).await?;
        cluster.power = power::Virsh::find(ids).await.map(|virsh| Arc::new(virsh) as Arc<dyn super::Power>);
        Ok(cluster)
    }

    /// Has Vagrant make and boot the machines that are not there, and keeps what it says about how to reach them.
    ///
    /// # Errors
    /// With what is missing, and what to do.
    pub async fn boot(&self, say: Say<'_>) -> anyhow::Result<()> {
        let driver = match self.settings.driver.as_deref() {
            Some("auto") => {
                say("trying whether /dev/kvm can boot a guest");
                match kvm::probe(&self.settings).await {
                    Ok(()) => Some("kvm"),
                    Err(why) => {
                        say(&format!("machines are emulated, which is slow: {why}"));
                        Some("qemu")
                    }
                }
            }
            _ => None,
        };
        let new: Vec<String> = self.names.iter().filter(|name| self.id(name).is_none()).cloned().collect();
        *self.made() = new;
        self.vagrant("up", driver, say).await?;
        self.keep_ssh_config().await?;
        Ok(())
    }

    async fn vagrant(&self, command: &str, driver: Option<&str>, say: Say<'_>) -> anyhow::Result<String> {
        let mut env = env_for(self.count());
        env.extend(driver.map(|driver| ("SQUALL_DRIVER", driver.to_owned())));
        let mut arguments = vec![command.to_owned()];
        arguments.extend(self.names.iter().cloned());
        cli::vagrant(&self.folder, &arguments, &env, say).await
    }

    async fn keep_ssh_config(&self) -> anyhow::Result<()> {
        let printed = self.vagrant("ssh-config", None, &|_| {}).await?;
        let path = self.ssh_config();
        fs::write(&path, cli::trusting_nobody(&printed)).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether machines that are known from before take connections now.
    async fn all_answer(&self) -> bool {
        let Ok(known) = self.known() else { return false };
        let dials = self.names.iter().map(|name| {
            let host = known.iter().find(|host| host.name == *name && self.id(name).is_some()).cloned();
            async move {
                let host = host?;
                let dial = TcpStream::connect((host.hostname.as_str(), host.port.unwrap_or(22)));
                tokio::time::timeout(DIAL_TIME_MAX, dial).await.ok()?.ok()
            }
        });
        futures::future::join_all(dials).await.iter().all(Option::is_some)
    }

    fn known(&self) -> anyhow::Result<Vec<SshConfigHost>> {
        let path = self.ssh_config();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(ssh_config::parse(&path.display().to_string(), &text)?)
    }

    /// How to log in to the machines, and their data addresses.
    fn hosts(&self) -> anyhow::Result<Vec<Host>> {
        let known = self.known()?;
        let host = |(index, name): (usize, &String)| {
            let Some(host) = known.iter().find(|host| host.name == *name) else {
                bail!("Vagrant did not say how to reach {name}");
            };
            let address: IpAddr = self.settings.address(index)?;
            if host.hostname.parse::<IpAddr>().ok() == Some(address) {
                bail!(
                    "{name} is reached over its data address {address}, which faults cut: `data_network` must not be Vagrant's \
                     own network"
                );
            }
            // A machine that was made anew has another id, and a new host key.
            let id: String =
                self.id(name).unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).take(12).collect();
            Ok(Host {
                name: name.clone(),
                destination: name.clone(),
                port: None,
                user: None,
                identity: None,
                address: Some(address),
                root: ROOT.to_owned(),
                known_hosts: "accept-new".to_owned(),
                known_hosts_file: Some(own_folder(&self.folder).join(format!("known_hosts-{name}-{id}"))),
                ssh_config: Some(self.ssh_config()),
                options: Vec::new(),
                labels: Vec::new(),
                is_ours: true,
            })
        };
        self.names.iter().enumerate().map(host).collect()
    }

    /// Vagrant's id of a machine; `None` when there is none.
    fn id(&self, name: &str) -> Option<String> {
        let folder = dot_folder(&self.folder).join("machines").join(name).join(&self.settings.provider);
        let id = fs::read_to_string(folder.join("id")).ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    }

    fn ids(&self) -> Vec<String> {
        match self.settings.provider.as_str() {
            "libvirt" => self.names.iter().filter_map(|name| self.id(name)).collect(),
            _ => Vec::new(),
        }
    }

    fn ssh_config(&self) -> PathBuf {
        own_folder(&self.folder).join("ssh_config")
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.made.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// How many the Vagrantfile is to know of.
    fn count(&self) -> usize {
        self.names.len().max(self.settings.nodes)
    }

    /// Names of the machines that are wanted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What each machine is doing, by name: `running`, `shutoff`, `not_created`.
    ///
    /// # Errors
    /// When Vagrant cannot say.
    pub async fn status(&self) -> anyhow::Result<Vec<(String, String)>> {
        let env = env_for(self.count());
        let arguments = ["status", "--machine-readable"].map(str::to_owned);
        let printed = cli::vagrant(&self.folder, &arguments, &env, &|_| {}).await?;
        Ok(cli::states(&printed))
    }

    /// Destroys the machines that [`boot`](Machines::boot) made; those that were there before stay.
    ///
    /// # Errors
    /// When Vagrant could not.
    pub async fn end(&self) -> anyhow::Result<()> {
        let mut made = std::mem::take(&mut *self.made());
        made.retain(|name| self.id(name).is_some());
        if made.is_empty() { Ok(()) } else { self.destroy(&made, &|_| {}).await }
    }

    /// Destroys all machines of the folder, and forgets how to reach them.
    ///
    /// # Errors
    /// When Vagrant could not.
    pub async fn down(&self, say: Say<'_>) -> anyhow::Result<()> {
        self.destroy(&[], say).await
    }

    /// No names are all of them.
    async fn destroy(&self, names: &[String], say: Say<'_>) -> anyhow::Result<()> {
        // More than are wanted now may be left from another test: all there may be.
        let env = env_for(machines_in(&dot_folder(&self.folder)).max(self.count()));
        let mut arguments = ["destroy", "--force"].map(str::to_owned).to_vec();
        arguments.extend(names.iter().cloned());
        cli::vagrant(&self.folder, &arguments, &env, say).await?;
        for entry in fs::read_dir(own_folder(&self.folder))?.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let is_of = |name: &String| file.starts_with(&format!("known_hosts-{name}-"));
            if file.starts_with("known_hosts-") && (names.is_empty() || names.iter().any(is_of)) || file == "ssh_config"
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// The command that opens a shell, or runs `command`, on a machine that is up.
///
/// # Errors
/// When the machine is not known.
pub fn ssh_command(folder: &Path, name: &str, command: &[String]) -> anyhow::Result<std::process::Command> {
    let folder = folder.canonicalize().with_context(|| format!("cannot use {}", folder.display()))?;
    let config = own_folder(&folder).join("ssh_config");
    let text = fs::read_to_string(&config)
        .map_err(|_| anyhow::anyhow!("no machines are up in {}: `squall cluster up` first", folder.display()))?;
    let hosts = ssh_config::parse(&config.display().to_string(), &text)?;
    if !hosts.iter().any(|host| host.name == name) {
        let known: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        bail!("there is no machine {name}: there are {}", known.join(", "));
    }
    let mut ssh = std::process::Command::new("ssh");
    ssh.arg("-F").arg(config).args(["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "LogLevel=ERROR", name, "--"]).args(command);
    Ok(ssh)
}

/// What tells the Vagrantfile how many machines there may be.
fn env_for(count: usize) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("SQUALL_NODES", count.to_string())])
}

/// Where Vagrant keeps what it knows of the machines of `folder`.
fn dot_folder(folder: &Path) -> PathBuf {
    match std::env::var_os("VAGRANT_DOTFILE_PATH") {
        Some(path) if !path.is_empty() => folder.join(path),
        _ => folder.join(".vagrant"),
    }
}

fn own_folder(folder: &Path) -> PathBuf {
    dot_folder(folder).join("squall")
}

/// The highest number of a machine that Vagrant knows.
fn machines_in(dot: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dot.join("machines")) else { return 0 };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix('n')?.parse().ok();
    entries.flatten().filter_map(number).max().unwrap_or(0)
}
