//! Where control groups are to be had: what `/proc/self/mountinfo` and `/proc/PID/cgroup` say (cgroups(7)).

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Controller {
    /// Microseconds of CPU time in each [`CPU_PERIOD_US`](super::CPU_PERIOD_US).
    Cpu,
    /// Bytes, swapped out or not.
    Memory,
    /// Processes and threads.
    Pids,
}

impl Controller {
    /// The kernel's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// Which of the kernel's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Version {
    V1,
    V2,
}

/// Where one controller's group of ours is, and where its processes are without us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) version: Version,
    /// Where the hierarchy is mounted.
    pub(super) mount: PathBuf,
    pub(super) home: PathBuf,
    pub(super) group: PathBuf,
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    version: Version,
    controllers: Vec<String>,
    /// Which group is at the mount point.
    root: String,
    pub(super) point: PathBuf,
}

/// All hierarchies of `mountinfo`. What a v2 hierarchy offers is asked of itself.
pub(super) fn mounts(mountinfo: &str) -> Vec<Mount> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let (head, tail): (Vec<&str>, Vec<&str>) = (head.split(' ').collect(), tail.split(' ').collect());
        let ([_, _, _, root, point, ..], [kind, _, options]) = (head.as_slice(), tail.as_slice()) else { continue };
        let point = PathBuf::from(point);
        let (version, controllers) = match *kind {
            "cgroup" => (Version::V1, options.split(',').map(str::to_owned).collect()),
            "cgroup2" => {
                let offered = std::fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default();
                (Version::V2, offered.split_ascii_whitespace().map(str::to_owned).collect())
            }
            _ => continue,
        };
        found.push(Mount { version, controllers, root: (*root).to_owned(), point });
    }
    found
}

impl Mount {
    fn offers(&self, controller: Controller) -> bool {
        self.controllers.iter().any(|offered| offered == controller.name())
    }

    /// The group of whoever's `/proc/PID/cgroup` this is, as a path below the mount point.
    ///
    /// # Errors
    /// When it is outside of what is mounted.
    pub(super) fn home(&self, cgroups: &str) -> Result<PathBuf, String> {
        let unseen = || format!("its control group cannot be seen below {}", self.point.display());
        let is_ours = |controllers: &str| match self.version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => {
                controllers.split(',').any(|one| !one.is_empty() && self.controllers.iter().any(|c| c == one))
            }
        };
        let path = cgroups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            is_ours(controllers).then_some(path)
        });
        let path = Path::new(path.ok_or_else(unseen)?);
        let below = path.strip_prefix(&self.root).map_err(|_| unseen())?;
        if below.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(unseen());
        }
        Ok(if below.as_os_str().is_empty() { self.point.clone() } else { self.point.join(below) })
    }

    /// The folder in which groups of ours are, for somebody who is in `home`.
    pub(super) fn nest(&self, home: &Path) -> PathBuf {
        match self.version {
            Version::V1 => home.to_owned(),
            Version::V2 => self.point.join("squall"),
        }
    }
}

/// Where `controller` is to be had for whoever's `/proc/PID/cgroup` this is, in a group called `name`.
///
/// # Errors
/// Why it is not.
pub(super) fn find(controller: Controller, mounts: &[Mount], cgroups: &str, name: &str) -> Result<Place, String> {
    let mount = mounts
        .iter()
        .find(|mount| mount.offers(controller))
        .ok_or_else(|| format!("no control group with `{}` is mounted here (cgroups(7))", controller.name()))?;
    let home = mount.home(cgroups)?;
    let group = mount.nest(&home).join(name);
    Ok(Place { version: mount.version, mount: mount.point.clone(), home, group })
}

/// Which version offers which of the controllers that we use, and may be written by us.
///
/// # Errors
/// Why the first that is missing is not to be had.
pub(crate) fn on_offer() -> Result<String, String> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let mounts = mounts(&read("/proc/self/mountinfo"));
    let cgroups = read("/proc/self/cgroup");
    let mut words = Vec::new();
    for controller in [Controller::Cpu, Controller::Memory, Controller::Pids] {
        let place = find(controller, &mounts, &cgroups, "squall")?;
        let above = if place.version == Version::V1 { &place.home } else { &place.mount };
        nix::unistd::access(above, nix::unistd::AccessFlags::W_OK)
            .map_err(|errno| format!("no group can be made in {}: {errno}", above.display()))?;
        let version = if place.version == Version::V1 { "v1" } else { "v2" };
        words.push(format!("{} ({version})", controller.name()));
    }
    Ok(words.join(", "))
}
