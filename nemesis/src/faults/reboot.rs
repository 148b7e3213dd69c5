//! Whole machines are rebooted in order: services are stopped, file systems are unmounted; then a start.

use super::{FaultKind, Lasts};
use crate::machine::machines;
use crate::trial::{TICKER, TrialSetup};
use squall_harness::nemesis::FaultDoc;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "reboot",
        what: "whole machines are rebooted in order; then the target is started",
        mechanism: "`systemctl reboot` on the machine",
        needs: "nodes with kernels of their own (vagrant, ssh), root",
        verified: "the machine is silent, then answers with another boot id",
        colour: "#b79a20",
    },
    lasts: Lasts {
        key: "restart_after",
        default_ms: 1000,
        doc: "the target is started when the machine is up, and not before this",
    },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: true },
};

machines!(Reboot, orderly: true);
