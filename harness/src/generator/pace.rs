//! Open-loop pacing: when operations are meant to start, whatever the system does.

use super::{Context, Generator, Next};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use squall_checkers::Event;

/// A slot this far in the past is given up: after a long stall the generator does not fire everything at once for ever.
const BACKLOG_NS_MAX: u64 = 5_000_000_000;

/// Operations at a fixed rate over all workers together. Each gets the time it was meant to start; when all workers are
/// busy the time passes and the delay counts as latency (no coordinated omission).
#[derive(Debug)]
pub struct Rate<G> {
    inner: G,
    interval_ns: f64,
    next_ns: Option<f64>,
}

impl<G: Generator> Rate<G> {
    /// `per_second` operations of `inner`; 0 means without pacing.
    pub fn new(per_second: f64, inner: G) -> Self {
        let interval_ns = if per_second > 0.0 { 1e9 / per_second } else { 0.0 };
        Self { inner, interval_ns, next_ns: None }
    }
}

impl<G: Generator> Generator for Rate<G> {
    fn next(&mut self, context: &Context) -> Next {
        let next = self.inner.next(context);
        let Next::Op(mut op) = next else { return next };
        if self.interval_ns > 0.0 {
            let at = claim(&mut self.next_ns, self.interval_ns, context.now_ns);
            op.at_ns = Some(at);
        }
        Next::Op(op)
    }

    fn update(&mut self, context: &Context, event: &Event) {
        self.inner.update(context, event);
    }
}

/// Operations at random intervals, exponentially distributed around the mean, over all workers together: a Poisson
/// process, as of many independent users.
pub struct Stagger<G> {
    inner: G,
    mean_ns: f64,
    next_ns: Option<f64>,
    rng: ChaCha8Rng,
}

impl<G: Generator> Stagger<G> {
    /// `per_second` operations of `inner` on average; 0 means without pacing.
    pub fn new(per_second: f64, rng: ChaCha8Rng, inner: G) -> Self {
        let mean_ns = if per_second > 0.0 { 1e9 / per_second } else { 0.0 };
        Self { inner, mean_ns, next_ns: None, rng }
    }
}

impl<G: Generator> Generator for Stagger<G> {
    fn next(&mut self, context: &Context) -> Next {
        let next = self.inner.next(context);
        let Next::Op(mut op) = next else { return next };
        if self.mean_ns > 0.0 {
            // 1 - u is never 0, so the logarithm is finite.
            let interval = -(1.0 - self.rng.random::<f64>()).ln() * self.mean_ns;
            op.at_ns = Some(claim(&mut self.next_ns, interval, context.now_ns));
        }
        Next::Op(op)
    }

    fn update(&mut self, context: &Context, event: &Event) {
        self.inner.update(context, event);
    }
}

/// Takes the next slot and moves the one after it `interval_ns` on.
fn claim(next_ns: &mut Option<f64>, interval_ns: f64, now_ns: u64) -> u64 {
    let oldest = now_ns.saturating_sub(BACKLOG_NS_MAX) as f64;
    let slot = next_ns.unwrap_or(now_ns as f64).max(oldest);
    *next_ns = Some(slot + interval_ns);
    slot as u64
}
