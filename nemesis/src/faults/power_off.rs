//! The power of whole machines is cut, with everything that their kernels had not written; they boot, then a start.

use super::{FaultKind, Lasts};
use crate::machine::machines;
use crate::trial::{TICKER, TrialSetup};
use squall_harness::nemesis::FaultDoc;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "power-off",
        what: "the power of whole machines is cut: what their kernels had not written is gone; they boot, and the target is started",
        mechanism: "vagrant: the virtual machine is destroyed and started; ssh: SysRq `b`, a reset by the kernel itself",
        needs: "nodes with kernels of their own (vagrant, ssh), root",
        verified: "the machine is silent, then answers with another boot id",
        colour: "#d4a72c",
    },
    lasts: Lasts {
        key: "restart_after",
        default_ms: 3000,
        doc: "how long it stays without power, where somebody else can switch it on; then it boots, and the target is started",
    },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: true },
};

machines!(PowerOff, orderly: false);
