//! Listening on an address that a user configured, with an error that says what to do.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener as StdListener};

use tokio::net::TcpListener;

/// Listens on `address`. Must be called within the async runtime.
///
/// # Errors
/// It cannot: why, and the remedy. `suspect` is the program that has the port if another one has, where that
/// can be guessed. The caller adds the configuration key.
pub fn listen(address: SocketAddr, suspect: Option<&str>) -> Result<TcpListener, String> {
    let listener = StdListener::bind(address).map_err(|e| {
        let remedy = match e.kind() {
            ErrorKind::AddrInUse => format!(
                "another program has that port{} (`ss -ltnp 'sport = :{}'` shows which): stop it, or set \
                 another address",
                suspect.map(|suspect| format!(", perhaps {suspect}")).unwrap_or_default(),
                address.port()
            ),
            ErrorKind::PermissionDenied => "ports below 1024 need root: choose a higher one".to_owned(),
            ErrorKind::AddrNotAvailable => {
                "this machine has no such address: `ip address` shows which it has".to_owned()
            }
            _ => "choose another address".to_owned(),
        };
        format!("cannot listen on {address}: {e}; {remedy}")
    })?;
    let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    listener.map_err(|e| format!("cannot listen on {address}: {e}"))
}
