//! Generators for some workers, or one for each.

use super::{Context, Generator, Next};
use squall_checkers::Event;
use std::collections::HashMap;

/// A generator of its own for each worker, made when it first asks.
pub struct PerThread<F> {
    make: F,
    threads: HashMap<usize, Box<dyn Generator>>,
}

impl<F: FnMut(usize) -> Box<dyn Generator> + Send> PerThread<F> {
    /// `make(thread)` makes the generator of a worker.
    pub fn new(make: F) -> Self {
        Self { make, threads: HashMap::new() }
    }
}

impl<F: FnMut(usize) -> Box<dyn Generator> + Send> Generator for PerThread<F> {
    fn next(&mut self, context: &Context) -> Next {
        let make = &mut self.make;
        self.threads.entry(context.thread).or_insert_with(|| make(context.thread)).next(context)
    }

    fn update(&mut self, context: &Context, event: &Event) {
        if let Some(generator) = self.threads.get_mut(&context.thread) {
            generator.update(context, event);
        }
    }
}

/// The inner generator for the workers that `choose` accepts; nothing for the others.
pub struct OnThreads<G, P> {
    inner: G,
    choose: P,
}

impl<G: Generator, P: Fn(usize) -> bool + Send> OnThreads<G, P> {
    /// `inner` only for threads with `choose(thread)`.
    pub fn new(choose: P, inner: G) -> Self {
        Self { inner, choose }
    }
}

impl<G: Generator, P: Fn(usize) -> bool + Send> Generator for OnThreads<G, P> {
    fn next(&mut self, context: &Context) -> Next {
        if (self.choose)(context.thread) { self.inner.next(context) } else { Next::Done }
    }

    fn update(&mut self, context: &Context, event: &Event) {
        if (self.choose)(context.thread) {
            self.inner.update(context, event);
        }
    }
}
