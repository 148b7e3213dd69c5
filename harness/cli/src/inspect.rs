//! What a person sees when a run stopped at a violation: the report, and a cluster that is still up.

use crate::run::{print_report, shown};
use squall_harness::progress::Progress;
use squall_harness::report::Report;
use squall_harness::store::Run;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What has to be known to show it.
pub(crate) struct Inspection {
    pub(crate) run: Run,
    pub(crate) json: bool,
    /// Most time to look around.
    pub(crate) keep_up: Option<Duration>,
    /// Names and addresses.
    pub(crate) nodes: Vec<(String, String)>,
    pub(crate) is_local: bool,
    pub(crate) progress: Progress,
    pub(crate) interrupts: watch::Receiver<u32>,
    /// Whether the report has been printed.
    pub(crate) shown: AtomicBool,
}

impl Inspection {
    /// Shows the report and how to enter the nodes; returns when the cluster may go down.
    pub(crate) async fn hold(&self, report: Report) {
        self.progress.finish();
        match print_report(&report, &self.run, self.json) {
            Ok(()) => self.shown.store(true, Ordering::Relaxed),
            Err(error) => eprintln!("warning: the report could not be printed: {error:#}"),
        }
        // Nobody presses Ctrl-C where there is no terminal.
        let is_watched = std::io::stderr().is_terminal();
        if !is_watched && self.keep_up.is_none() {
            return;
        }
        self.explain();
        let mut interrupts = self.interrupts.clone();
        let before = *interrupts.borrow();
        let asked = interrupts.wait_for(|count| *count > before);
        match self.keep_up {
            Some(length) => drop(tokio::time::timeout(length, asked).await),
            None => drop(asked.await),
        }
    }

    fn explain(&self) {
        let until = match self.keep_up {
            Some(length) => format!("for {} s, or until Ctrl-C", length.as_secs()),
            None => "until Ctrl-C".to_owned(),
        };
        eprintln!("  up       the cluster stays as it is {until}; faults in force end by themselves with their leases");
        for (name, address) in &self.nodes {
            match self.is_local {
                true => eprintln!("           {name:<6} {address:<15} squall enter {} {name}", shown(&self.run.dir)),
                false => eprintln!("           {name:<6} {address}"),
            }
        }
    }
}
