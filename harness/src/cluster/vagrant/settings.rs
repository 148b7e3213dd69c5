//! What squall must know of `cluster.yaml`; the rest of it is the Vagrantfile's business.

use crate::config::{ConfigError, Doc, Section};
use anyhow::Context;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// The machines of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many.
    pub nodes: usize,
    /// `libvirt` or `virtualbox`.
    pub provider: String,
    /// The first three bytes of data addresses.
    data_network: String,
    /// `qemu`, `kvm`, or `auto`; of libvirt only.
    pub(super) driver: Option<String>,
    /// What libvirt boots directly: kernel and initrd.
    pub(super) kernel: Option<(PathBuf, PathBuf)>,
}

/// `n1`, `n2`, …
pub fn names(nodes: usize) -> Vec<String> {
    (1..=nodes).map(|i| format!("n{i}")).collect()
}

impl Settings {
    /// Reads `cluster.yaml` of a folder with a Vagrantfile, or what `SQUALL_CLUSTER` names.
    ///
    /// # Errors
    /// File, line and key of what is wrong.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        if !folder.join("Vagrantfile").is_file() {
            let what = "there is no Vagrantfile in it: run squall from the top of its repository, whose folder `vagrant` has one, \
                        or name another with `cluster.folder`";
            return Err(ConfigError { origin: folder.display().to_string(), what: what.to_owned() });
        }
        let file = folder.join(std::env::var("SQUALL_CLUSTER").unwrap_or_else(|_| "cluster.yaml".to_owned()));
        let shown = file.display().to_string();
        let failed = |what: String| ConfigError { origin: shown.clone(), what };
        let text = std::fs::read_to_string(&file).map_err(|e| failed(format!("cannot read it: {e}")))?;
        Self::parse(&shown, &text, file.parent().unwrap_or(folder))
    }

    fn parse(shown: &str, text: &str, folder: &Path) -> Result<Self, ConfigError> {
        let mut top = Section::new("", Doc::parse(shown, text)?)?;
        let nodes = top.get("nodes", 3usize, "how many machines")?;
        let provider = top.get("provider", "libvirt".to_owned(), "libvirt or virtualbox")?;
        let data_network = top.get("data_network", "10.77.0".to_owned(), "the first three bytes of data addresses")?;
        let mut libvirt = top.section("libvirt")?;
        let driver = libvirt.get("driver", "auto".to_owned(), "qemu, kvm or auto")?;
        let mut file =
            |key| libvirt.optional::<String>(key, "booted directly").map(|path| path.map(|path| folder.join(path)));
        let kernel = file("kernel")?.zip(file("initrd")?);
        if !(1..=99).contains(&nodes) {
            return Err(top.error(format!("`nodes` must be from 1 to 99, not {nodes}")));
        }
        if format!("{data_network}.1").parse::<Ipv4Addr>().is_err() {
            return Err(top.error(format!("`data_network` must be three bytes such as 10.77.0, not `{data_network}`")));
        }
        let driver = (provider == "libvirt").then_some(driver);
        // All other keys are the Vagrantfile's, which knows them all.
        Ok(Self { nodes, provider, data_network, driver, kernel })
    }

    /// The data address of the node with this index, as the Vagrantfile gives it.
    ///
    /// # Errors
    /// When there is none for so many machines.
    pub(super) fn address(&self, index: usize) -> anyhow::Result<IpAddr> {
        let text = format!("{}.{}", self.data_network, 11 + index);
        text.parse().with_context(|| format!("{text} is no address for a machine"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse("c.yaml", text, Path::new("/v")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_and_what_is_not() {
        let settings =
            parse("nodes: 5\ndata_network: 10.1.2\nmemory: 512\nlibvirt: { driver: kvm, kernel: b/k, initrd: b/i }\n")
                .unwrap();
        assert_eq!((settings.nodes, settings.driver.as_deref()), (5, Some("kvm")));
        assert_eq!(settings.kernel, Some(("/v/b/k".into(), "/v/b/i".into())));
        assert_eq!(settings.address(4).unwrap().to_string(), "10.1.2.15");
        let settings = parse("memory: 512\n").unwrap();
        assert_eq!((settings.nodes, settings.driver.as_deref(), settings.kernel.clone()), (3, Some("auto"), None));
        assert_eq!(parse("provider: virtualbox\n").unwrap().driver, None);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in
            [("nodes: 0\n", "from 1 to 99"), ("nodes: x\n", "c.yaml:1"), ("data_network: 10.1\n", "three bytes")]
        {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = Settings::read(Path::new("/no/such")).unwrap_err().to_string();
        assert!(error.contains("no Vagrantfile"), "{error}");
    }
}
