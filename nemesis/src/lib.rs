//! Fault plans, schedules and effectors.
