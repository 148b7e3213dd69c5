//! Systems under test: install, start, stop, client.
