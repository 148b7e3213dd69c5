//! The `squall` command with everything that comes with it.

use squall_harness::Registry;
use std::process::ExitCode;

fn main() -> ExitCode {
    squall::main_with(Registry {
        targets: squall_targets::kinds(),
        workloads: squall_workloads::kinds(),
        nemesis: Box::new(squall_nemesis::SquallNemesis),
    })
}
