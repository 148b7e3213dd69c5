//! A process that dies while it recovers from a crash.

use super::{FaultKind, Lasts};
use crate::crashes::{Defaults, crashes};
use crate::trial::{TICKER, TrialSetup};
use squall_harness::nemesis::FaultDoc;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "kill-in-recovery",
        what: "kill -9, and another while the process recovers after its start",
        mechanism: "signal 9 by a helper on the node that watches for every new life of the process",
        needs: "nothing",
        verified: "crashes counted by the helper",
        colour: "#a85e7c",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long it goes on" },
    read,
    // Lives that are long enough for the shell of a busy machine to say that it was started.
    trial: TrialSetup {
        nodes: 2,
        keys: "{ nodes: one, lives: [400ms, 800ms] }",
        target: None,
        program: TICKER,
        machines: false,
    },
};

const DEFAULTS: Defaults = Defaults { nodes: "one", lives_ms: (50, 1500), again: 1 };

crashes!(KillInRecovery);
