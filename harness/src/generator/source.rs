//! Leaves: operations from a function, or just one.

use super::{Context, Generator, Next, OpSpec};

/// A generator that asks `f` every time; `None` ends it for the thread that asked.
pub fn from_fn<F>(f: F) -> impl Generator
where
    F: FnMut(&Context) -> Option<OpSpec> + Send,
{
    struct FromFn<F>(F);
    impl<F: FnMut(&Context) -> Option<OpSpec> + Send> Generator for FromFn<F> {
        fn next(&mut self, context: &Context) -> Next {
            (self.0)(context).map_or(Next::Done, Next::Op)
        }
    }
    FromFn(f)
}

/// One operation, for whichever worker asks first.
#[derive(Debug)]
pub struct Once(Option<OpSpec>);

impl Once {
    /// Just `op`.
    pub fn new(op: OpSpec) -> Self {
        Self(Some(op))
    }
}

impl Generator for Once {
    fn next(&mut self, _: &Context) -> Next {
        self.0.take().map_or(Next::Done, Next::Op)
    }
}
