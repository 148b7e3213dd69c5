//! A process that dies soon after every start.

use super::{FaultKind, Lasts};
use crate::crashes::{Defaults, crashes};
use crate::trial::{TICKER, TrialSetup};
use squall_harness::nemesis::FaultDoc;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "crash-loop",
        what: "kill -9 soon after every start, which follows at once",
        mechanism: "signal 9 by a helper on the node that watches for every new life of the process",
        needs: "nothing",
        verified: "crashes counted by the helper",
        colour: "#b279a2",
    },
    lasts: Lasts { key: "for", default_ms: 5000, doc: "how long it goes on" },
    read,
    trial: TrialSetup { nodes: 2, keys: "{ nodes: one }", target: None, program: TICKER, machines: false },
};

const DEFAULTS: Defaults = Defaults { nodes: "one", lives_ms: (0, 300), again: 0 };

crashes!(CrashLoop);
