//! The power switch of libvirt's machines, and snapshots of their disks.

use crate::cluster::Power;
use anyhow::{Context, bail};
use async_trait::async_trait;
use tokio::process::Command;

/// Where Vagrant's machines are, unless `LIBVIRT_DEFAULT_URI` says otherwise.
const SYSTEM: &str = "qemu:///system";

/// What a snapshot of ours is called.
const SNAPSHOT: &str = "squall";

/// `virsh`, for machines with these ids.
pub(super) struct Virsh {
    ids: Vec<String>,
}

impl Virsh {
    /// `None` where there is no virsh, or it does not know the machines: then they can only reset themselves.
    pub(super) async fn find(ids: Vec<String>) -> Option<Self> {
        let virsh = Self { ids };
        for node in 0..virsh.ids.len() {
            virsh.state(node).await.ok()?;
        }
        (!virsh.ids.is_empty()).then_some(virsh)
    }

    async fn virsh(&self, command: &str, node: usize) -> anyhow::Result<String> {
        self.virsh_with(command, node, &[]).await
    }

    async fn virsh_with(&self, command: &str, node: usize, more: &[&str]) -> anyhow::Result<String> {
        let id = self.ids.get(node).context("no such machine")?;
        let mut virsh = Command::new("virsh");
        if std::env::var_os("LIBVIRT_DEFAULT_URI").is_none() {
            virsh.args(["-c", SYSTEM]);
        }
        let output = virsh
            .args(["-q", command, id])
            .args(more)
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot start virsh")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        bail!("`virsh {command} {id}` failed: {}", String::from_utf8_lossy(&output.stderr).trim())
    }

    async fn state(&self, node: usize) -> anyhow::Result<String> {
        self.virsh("domstate", node).await
    }

    async fn has_snapshot(&self, node: usize) -> anyhow::Result<bool> {
        let names = self.virsh_with("snapshot-list", node, &["--name"]).await?;
        Ok(names.lines().any(|name| name.trim() == SNAPSHOT))
    }
}

#[async_trait]
impl Power for Virsh {
    async fn off(&self, node: usize) -> anyhow::Result<()> {
        if self.state(node).await? != "shut off" {
            self.virsh("destroy", node).await?;
        }
        match self.state(node).await?.as_str() {
            "shut off" => Ok(()),
            other => bail!("its power was cut, but libvirt says that it is {other}"),
        }
    }

    async fn on(&self, node: usize) -> anyhow::Result<()> {
        if self.state(node).await? == "shut off" {
            self.virsh("start", node).await?;
        }
        Ok(())
    }

    async fn keep_disks(&self, node: usize) -> anyhow::Result<()> {
        self.keep_nothing(node).await?;
        let description = "made by squall for a fault that puts the disks back";
        let options = ["--name", SNAPSHOT, "--description", description, "--atomic"];
        self.virsh_with("snapshot-create-as", node, &options).await.map(|_| ())
    }

    async fn put_disks_back(&self, node: usize) -> anyhow::Result<()> {
        // Memory was kept, too, and is let go of: the machine is to boot.
        self.virsh_with("snapshot-revert", node, &["--snapshotname", SNAPSHOT, "--paused", "--force"]).await?;
        self.off(node).await?;
        self.keep_nothing(node).await
    }

    async fn keep_nothing(&self, node: usize) -> anyhow::Result<()> {
        if self.has_snapshot(node).await? {
            self.virsh_with("snapshot-delete", node, &["--snapshotname", SNAPSHOT]).await?;
        }
        Ok(())
    }
}
