//! The command line: deploys a fleet, and shows what became of it.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::todo,
    clippy::dbg_macro
)]

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

mod args;
mod backup;
mod buses;
mod client;
mod complete;
mod engines;
mod enrolment;
mod examine;
mod files;
mod fleet_file;
mod home;
mod host_network;
mod hosts;
mod legacy;
mod live;
mod logger;
mod logs;
mod ls;
mod mirror;
mod net;
mod operate;
mod output;
mod pki;
mod place;
mod placed;
mod private;
mod row_name;
mod running;
mod serve;
mod show;
mod starter;
mod store_watch;
mod table;
mod token;
mod upkeep;
mod watch;
mod worker;

use args::{Args, Command};

/// What a command came to.
enum Done {
    /// All went well.
    Well,
    /// A row failed, or something is not as it should be.
    RowsFailed,
    /// It would be refused.
    Refused,
    /// It took longer than was given.
    Late,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// Something about the input, the files or the machine that a user can mend.
#[derive(Debug)]
struct Complaint(String);

impl<E: std::error::Error + 'static> From<E> for Complaint {
    fn from(error: E) -> Self {
        match command_for(&error) {
            Some(command) => Self(format!("{error} ({command})")),
            None => Self(error.to_string()),
        }
    }
}

/// With which command or option of this program to do what the library's error
/// asks for.
fn command_for(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use decnet_lifecycle::agent::{HostsFileError, https::IdentityError};
    use decnet_lifecycle::store::OpenError;
    match error.downcast_ref() {
        Some(OpenError::Missing { .. }) => return Some("a first `deploy` makes one; --data names another"),
        Some(OpenError::Foreign { .. }) => return Some("--data names another"),
        _ => {}
    }
    if error.is::<HostsFileError>() {
        return Some("`hosts rotate` gives a new pin, `hosts rm` takes a host out");
    }
    error.is::<IdentityError>().then_some("`pki issue` makes one")
}

fn main() -> ExitCode {
    // The process engine starts this program again, once for each service.
    if let Some(end) = decnet_lifecycle::engine::process::decoy_main() {
        return end;
    }
    complete::answer(Args::command);
    let args = Args::parse();
    let is_server = matches!(args.command, Command::Serve(_) | Command::Worker(_));
    logger::install(args.verbose, args.log, is_server);
    if matches!(
        args.command,
        Command::Deploy(_)
            | Command::Mutate(_)
            | Command::Undo(_)
            | Command::Retry(_)
            | Command::Teardown(_)
            | Command::Up { .. }
            | Command::Serve(_)
            | Command::Worker(_)
    ) {
        output::at_work();
    }
    let done = match &args.command {
        // Their HTTP stack runs on tokio.
        Command::Serve(_) | Command::Worker(_) => match tokio::runtime::Runtime::new() {
            Ok(runtime) => {
                net::raise_limits();
                runtime.block_on(run(args))
            }
            Err(error) => Err(error.into()),
        },
        _ => smol::block_on(run(args)),
    };
    match done {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::RowsFailed) => ExitCode::from(1),
        Ok(Done::Refused) => ExitCode::from(2),
        Ok(Done::Late) => ExitCode::from(124),
        Ok(Done::Interrupted) => ExitCode::from(130),
        Err(Complaint(what)) => {
            output::aside(&format!("error: {what}"));
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Result<Done, Complaint> {
    let out = output::Output::new(args.json, args.color);
    let home = home::Home::new(args.data, args.store)?;
    match args.command {
        Command::Init(init) => starter::init(&out, &init),
        Command::Check { fleet, engine, compose } => starter::check(&home, &out, &fleet, engine, &compose),
        Command::Schema { of } => Ok(starter::schema(of)),
        Command::Deploy(deploy) if deploy.dry_run => placed::plan(&home, &out, deploy).await,
        Command::Deploy(deploy) => operate::deploy(&home, &out, deploy).await,
        Command::Plan(deploy) => placed::plan(&home, &out, deploy).await,
        Command::Ps { deckies } => placed::ps(&home, &out, &deckies).await,
        Command::Mutate(mutate) => operate::mutate(&home, &out, mutate).await,
        Command::Teardown(teardown) => operate::teardown(&home, &out, teardown).await,
        Command::Up { wait } => operate::up(&home, &out, wait).await,
        Command::Logs(args) => logs::logs(&home, &out, args).await,
        Command::Ls(ls) => ls::ls(&home, &out, ls).await,
        Command::Show { row } => show::show(&home, &out, &row).await,
        Command::Wait { rows, timeout } => show::wait(&home, &out, &rows, timeout).await,
        Command::Watch(watch) => watch::watch(&home, &out, watch).await,
        Command::Export { state: true } => placed::export_state(&home).await,
        Command::Export { state: false } => ls::export(&home).await,
        Command::Undo(undo) => operate::undo(&home, &out, undo).await,
        Command::Retry(retry) => operate::retry(&home, &out, retry).await,
        Command::Cancel { rows, wait } => upkeep::cancel(&home, &out, &rows, wait).await,
        Command::Sweep { wait } => upkeep::sweep(&home, &out, wait).await,
        Command::Prune { older_than, wait } => upkeep::prune(&home, &out, older_than, wait).await,
        Command::Backup { file } => backup::backup(&home, &out, &file),
        Command::Restore { file } => backup::restore(&home, &out, &file),
        Command::Doctor { fleet, compose } => examine::doctor(&home, &out, fleet, &compose).await,
        Command::ComposeFile { fleet, compose } => examine::compose_file(&home, &fleet, &compose),
        Command::Serve(args) => serve::serve(&home, &out, args).await,
        Command::Worker(args) => worker::work(&home, &out, args).await,
        Command::Pki(command) => pki::pki(&home, &out, command),
        Command::Hosts(command) => hosts::hosts(&home, &out, command).await,
        Command::Mirror(args) => mirror::mirror(&home, &out, args).await,
        Command::Bus(args::Bus::Tap { pattern, socket }) => watch::tap(&out, &pattern, socket).await,
        Command::Completions { shell } => complete::script(shell),
    }
}
