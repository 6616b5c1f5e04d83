//! `wattrace view`: a web page, on this machine only, that shows who used how much energy over time.
//!
//! | file | holds |
//! | --- | --- |
//! | `view/database.rs` | what a database of the plugin `sqlite` has |
//! | `view/live.rs` | what a running agent sends |
//!
//! `libs/page` has the page, its data and its server.

mod database;
mod live;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use wattrace_page::{Server, Source};

use super::control::configured_socket;
use super::failure::{Failure, print};
use super::session;

/// Options of `wattrace view`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// A database of the plugin sqlite [default: the running agent, from now on]
    #[arg(value_name = "FILE.db")]
    file: Option<PathBuf>,
    /// The agent's socket [default: agent.control_socket of /etc/wattrace/wattrace.toml, or
    /// /run/wattrace/control.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "file")]
    socket: Option<PathBuf>,
    /// The port on 127.0.0.1 to listen on [default: a free one]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Open the page in the desktop's browser
    #[arg(long)]
    open: bool,
}

/// Runs the command.
pub(super) fn main(options: &Options) -> Result<ExitCode, Failure> {
    let source = source(options)?;
    session::runtime()?.block_on(serve(options, source))?;
    Ok(ExitCode::SUCCESS)
}

fn source(options: &Options) -> Result<Arc<dyn Source>, Failure> {
    match (&options.file, &options.socket) {
        (Some(file), _) => Ok(Arc::new(database::Database::open(file.clone())?)),
        (None, Some(socket)) => Ok(Arc::new(live::Live::open(socket)?)),
        (None, None) => Ok(Arc::new(live::Live::open(&configured_socket())?)),
    }
}

/// Serves the page until a signal asks this process to end.
async fn serve(options: &Options, source: Arc<dyn Source>) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|e| Failure::new(format!("cannot listen for signals: {e}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let port = options.port.unwrap_or(0);
    let server = Server::bind(port)
        .map_err(|e| Failure::new(format!("--port {port}: cannot listen on it: {e}; choose another one")))?;
    let url = server.url();
    print(&format!("{url}\n"))?;
    eprintln!("wattrace: open this page in a browser on this machine; Ctrl-C ends it");
    if options.open {
        open_browser(&url);
    }
    tokio::select! {
        () = server.serve(source) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Asks the desktop to open an address. The page is served whether that works or not.
fn open_browser(url: &str) {
    let mut opener = Command::new("xdg-open");
    opener.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(e) = opener.spawn() {
        eprintln!("wattrace: --open: cannot run xdg-open: {e}");
    }
}
