//! Impairs the packets of ordered pairs of nodes: in the router namespace of the local cluster, or on the node that sends them.
//!
//! ```text
//! node A -> router: rule "from A to B: table 7700" -> interface `squall` -> shaper: stages, each with its queue
//! node B <- router: rule "in by `squall`: table main" <- interface `squall` <-
//! ```
//!
//! A node that is a machine of its own has no router of ours before it, and does the same with what it sends: the rule sends its
//! packets into the interface instead of out, and what comes back is forwarded. Datagrams of a socket that is bound to no
//! address go past it, for the kernel chooses their way before their source.
//!
//! Only packets of impaired pairs take that way; all others stay in the kernel. The pure part ([`links`], [`stage`],
//! [`stages`], [`packet`]) maps packets and times to packets and times; the thin edge is the interface ([`tun`]), the loop
//! ([`run`]) and the questions of the agent ([`control`]).
//!
//! When the shaper dies, its interface and the route in its table go with it, and the rules find nothing there: the kernel
//! goes on to the main table, and packets pass unimpaired at once. What was held is lost, as with any wire.
//!
//! Choices are seeded, time is not: which packet comes first, and when, is up to machine and kernel.

mod control;
mod links;
mod packet;
mod run;
mod stage;
mod stages;
mod tun;

pub(crate) use control::{Ask, ask};
pub(crate) use run::run;
pub(crate) use tun::accept_own_packets;
