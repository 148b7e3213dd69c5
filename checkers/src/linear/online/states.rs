//! States and kinds of operations as small numbers, thrown away when nobody uses them any more.

use super::super::problem::FastMap;
use super::streamed::Streamed;

/// What is known of a kind of operation.
#[derive(Clone, Copy)]
pub(super) struct Traits {
    pub(super) is_read_only: bool,
    pub(super) overwrites: bool,
}

/// Numbers for the states and kinds in use, and the steps between them.
pub(super) struct States<M: Streamed> {
    pub(super) model: M,
    kinds: Vec<(M::Op, Traits)>,
    by_op: FastMap<M::Op, u32>,
    states: Vec<M::State>,
    by_state: FastMap<M::State, u32>,
    /// The first outcome of each step, and the others.
    steps: FastMap<(u32, u32), Option<u32>>,
    others: FastMap<(u32, u32), Box<[u32]>>,
    bytes: u64,
}

impl<M: Streamed> States<M> {
    pub(super) fn new(model: M) -> Self {
        Self {
            model,
            kinds: Vec::new(),
            by_op: FastMap::default(),
            states: Vec::new(),
            by_state: FastMap::default(),
            steps: FastMap::default(),
            others: FastMap::default(),
            bytes: 0,
        }
    }

    pub(super) fn kind(&mut self, op: &M::Op) -> u32 {
        if let Some(&kind) = self.by_op.get(op) {
            return kind;
        }
        let traits = Traits { is_read_only: self.model.is_read_only(op), overwrites: self.model.overwrites(op) };
        self.kinds.push((op.clone(), traits));
        let kind = self.kinds.len() as u32 - 1;
        self.by_op.insert(op.clone(), kind);
        self.bytes += 2 * size_of::<M::Op>() as u64 + 32;
        kind
    }

    pub(super) fn state(&mut self, state: M::State) -> u32 {
        let next = self.states.len() as u32;
        let (states, bytes, model) = (&mut self.states, &mut self.bytes, &self.model);
        *self.by_state.entry(state).or_insert_with_key(|state| {
            // Once in the list and once in the map.
            *bytes += 2 * model.state_bytes(state) as u64 + 32;
            states.push(state.clone());
            next
        })
    }

    pub(super) fn traits(&self, kind: u32) -> Traits {
        self.kinds[kind as usize].1
    }

    pub(super) fn commutes(&self, a: u32, b: u32) -> bool {
        self.model.commutes(&self.kinds[a as usize].0, &self.kinds[b as usize].0)
    }

    pub(super) fn step(&mut self, state: u32, kind: u32) -> Option<u32> {
        if let Some(&known) = self.steps.get(&(state, kind)) {
            return known;
        }
        let (before, op) = (&self.states[state as usize], &self.kinds[kind as usize].0);
        let next = if self.model.has_outcomes() {
            let outcomes = self.model.outcomes(before, op);
            let outcomes: Vec<u32> = outcomes.into_iter().map(|next| self.state(next)).collect();
            if outcomes.len() > 1 {
                self.bytes += 40 + 4 * outcomes.len() as u64;
                self.others.insert((state, kind), outcomes[1..].into());
            }
            outcomes.first().copied()
        } else {
            let next = self.model.step(before, op);
            next.map(|next| self.state(next))
        };
        self.steps.insert((state, kind), next);
        self.bytes += 32;
        next
    }

    /// All outcomes of a step but the first.
    pub(super) fn others(&self, state: u32, kind: u32) -> Vec<u32> {
        if !self.model.has_outcomes() {
            return Vec::new();
        }
        self.others.get(&(state, kind)).map(|others| others.to_vec()).unwrap_or_default()
    }

    /// How many states and kinds there are.
    pub(super) fn len(&self) -> usize {
        self.states.len() + self.kinds.len()
    }

    /// About how many bytes a state shares with others.
    pub(super) fn shared_bytes(&self, state: u32) -> u64 {
        self.model.shared_bytes(&self.states[state as usize])
    }

    /// About how many bytes all of this takes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Starts over with these kinds and states only; gives them their new numbers.
    pub(super) fn keep<'u>(
        &mut self,
        kinds: impl Iterator<Item = &'u mut u32>,
        states: impl Iterator<Item = &'u mut u32>,
    ) {
        let fresh = Self::new(self.model.clone());
        let old = std::mem::replace(self, fresh);
        for kind in kinds {
            *kind = self.kind(&old.kinds[*kind as usize].0);
        }
        for state in states {
            *state = self.state(old.states[*state as usize].clone());
        }
    }
}
