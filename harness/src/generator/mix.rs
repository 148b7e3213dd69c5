//! A weighted random choice between generators.

use super::{Context, Generator, Next};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use squall_checkers::Event;

/// Asks one of several generators, chosen at random by weight; one that is done for a thread is left out from then on.
pub struct Mix {
    rng: ChaCha8Rng,
    parts: Vec<(u32, Box<dyn Generator>)>,
}

impl Mix {
    /// Parts with their weights; a part of weight 0 is never asked.
    pub fn new(rng: ChaCha8Rng, parts: Vec<(u32, Box<dyn Generator>)>) -> Self {
        Self { rng, parts }
    }
}

impl Generator for Mix {
    fn next(&mut self, context: &Context) -> Next {
        let mut candidates: Vec<usize> = (0..self.parts.len()).filter(|&i| self.parts[i].0 > 0).collect();
        let mut waiting: Option<Next> = None;
        while !candidates.is_empty() {
            let total: u32 = candidates.iter().map(|&i| self.parts[i].0).sum();
            let mut draw = self.rng.random_range(0..total);
            let at = candidates
                .iter()
                .position(|&i| {
                    let weight = self.parts[i].0;
                    let hit = draw < weight;
                    draw = draw.wrapping_sub(if hit { 0 } else { weight });
                    hit
                })
                .expect("the draw is below the sum of the weights");
            match self.parts[candidates[at]].1.next(context) {
                Next::Op(op) => return Next::Op(op),
                Next::Done => {}
                next => waiting = Some(earlier(waiting, next)),
            }
            candidates.remove(at);
        }
        waiting.unwrap_or(Next::Done)
    }

    fn update(&mut self, context: &Context, event: &Event) {
        for (_, part) in &mut self.parts {
            part.update(context, event);
        }
    }
}

/// The sooner of two answers that are not operations.
fn earlier(a: Option<Next>, b: Next) -> Next {
    match (a, b) {
        (Some(Next::Wait(a)), Next::Wait(b)) => Next::Wait(a.min(b)),
        // Pending may end at any moment, so it is asked again soonest.
        (Some(Next::Pending), _) | (_, Next::Pending) => Next::Pending,
        (_, b) => b,
    }
}
