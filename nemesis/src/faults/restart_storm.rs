//! All processes restart again and again at random moments.

use super::{FaultKind, Lasts};
use crate::crashes::{Defaults, crashes};
use crate::trial::{TICKER, TrialSetup};
use squall_harness::nemesis::FaultDoc;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "restart-storm",
        what: "kill -9 and start of many nodes again and again, at random moments",
        mechanism: "signal 9 by a helper on the node that watches for every new life of the process",
        needs: "nothing",
        verified: "crashes counted by the helper",
        colour: "#9d755d",
    },
    lasts: Lasts { key: "for", default_ms: 6000, doc: "how long it goes on" },
    read,
    trial: TrialSetup {
        nodes: 2,
        keys: "{ nodes: all, lives: [300ms, 900ms] }",
        target: None,
        program: TICKER,
        machines: false,
    },
};

const DEFAULTS: Defaults = Defaults { nodes: "all", lives_ms: (300, 2000), again: 0 };

crashes!(RestartStorm);
