//! squall-node: the project's own replicated stack.
