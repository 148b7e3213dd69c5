//! `squall cluster`: the virtual machines of provider `vagrant`, kept between runs.

use squall_harness::cluster::vagrant::{self, Machines};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Do,
    /// Folder with Vagrantfile and cluster.yaml
    #[arg(long, default_value = "vagrant", global = true)]
    folder: PathBuf,
}

#[derive(clap::Subcommand)]
enum Do {
    /// Make and boot the machines that are not there; runs use them as they are
    Up {
        /// How many (default: what cluster.yaml says)
        #[arg(long)]
        nodes: Option<usize>,
    },
    /// What each machine is doing
    Status,
    /// A shell on a machine, or a command there
    Ssh {
        /// n1, n2, …
        node: String,
        /// Run there instead of a shell
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Destroy all machines, and forget how to reach them
    Down,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Do::Ssh { node, command } = &args.command {
        use std::os::unix::process::CommandExt;
        let error = vagrant::ssh_command(&args.folder, node, command)?.exec();
        return Err(anyhow::Error::new(error).context("cannot start ssh"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(machines(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn machines(args: &Args) -> anyhow::Result<()> {
    let begun = Instant::now();
    let say = |what: &str| eprintln!("  {:>5.1} s  {what}", begun.elapsed().as_secs_f64());
    match &args.command {
        Do::Up { nodes } => {
            let machines = Machines::open(&args.folder, *nodes)?;
            machines.boot(&say).await?;
            println!("{} are up after {:.1} s", machines.names().join(" "), begun.elapsed().as_secs_f64());
        }
        Do::Status => {
            for (name, state) in Machines::open(&args.folder, None)?.status().await? {
                println!("{name:<6} {state}");
            }
        }
        Do::Down => Machines::open(&args.folder, None)?.down(&say).await?,
        Do::Ssh { .. } => {}
    }
    Ok(())
}
