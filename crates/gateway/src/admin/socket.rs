//! The admin commands' unix-domain socket, and a client of it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::commands::Commands;
use super::protocol::{Command, Response};
use crate::metrics;

/// The longest line either way: an import of tens of thousands of merchants.
pub const LINE_MAX: u64 = 32 * 1024 * 1024;
/// Connections at once; one more waits until one of them ends.
pub(super) const CONNECTIONS_MAX: usize = 16;
/// How long a client may take to send its command.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// How long to wait after a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the socket cannot be opened.
#[derive(Debug, Error)]
pub enum SocketError {
    /// A switch answers there.
    #[error("{0}: another switch listens there")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0}: is there and is no socket")]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
}

/// Why a command could not be given.
#[derive(Debug, Error)]
pub enum CallError {
    /// No switch listens there.
    #[error("{0}: no switch answers there: {1}")]
    NoSwitch(PathBuf, #[source] io::Error),
    /// The connection failed after the command was sent: it may have been carried out.
    #[error("the switch did not answer; the command may have been carried out: {0}")]
    NoAnswer(#[source] io::Error),
    /// The answer is none.
    #[error("the switch answered what this version does not understand: {0}")]
    Answer(#[from] serde_json::Error),
}

/// Opens the socket; only its owner may use it. What a process that crashed has left is removed.
///
/// # Errors
///
/// [`SocketError`].
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let io = |err| SocketError::Io(path.to_owned(), err);
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(SocketError::InUse(path.to_owned()));
        }
        Ok(_) | Err(_) => {}
    }
    // Made under another name and moved, so that nobody ever sees it open to all.
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(name);
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(io)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
    std::fs::rename(&hidden, path).map_err(io)?;
    Ok(listener)
}

/// Serves commands until it is dropped; what is under way then goes on.
pub async fn serve(listener: UnixListener, commands: Commands) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let commands = commands.clone();
                let counted = Counted::new(&places);
                tokio::spawn(async move {
                    let _counted = counted;
                    if let Err(err) = connection(stream, &commands).await {
                        tracing::debug!(%err, "admin connection ended");
                    }
                    drop(place);
                });
            }
            Err(err) => {
                tracing::warn!(%err, "cannot accept admin connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that is counted for as long as it is open.
struct Counted(Arc<Semaphore>);

impl Counted {
    fn new(places: &Arc<Semaphore>) -> Self {
        metrics::admin_connections(CONNECTIONS_MAX.saturating_sub(places.available_permits()));
        Self(Arc::clone(places))
    }
}

impl Drop for Counted {
    /// Its place is free by then.
    fn drop(&mut self) {
        metrics::admin_connections(CONNECTIONS_MAX.saturating_sub(self.0.available_permits()));
    }
}

async fn connection(stream: UnixStream, commands: &Commands) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = tokio::io::BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(LINE_MAX);
        let read = tokio::time::timeout(READ_DEADLINE, limited.read_until(b'\n', &mut line)).await;
        if read.map_err(|_| io::ErrorKind::TimedOut)?? == 0 {
            return Ok(());
        }
        let response = if line.last() == Some(&b'\n') {
            match serde_json::from_slice::<Command>(&line) {
                Ok(command) => {
                    tracing::info!(?command, "admin command");
                    commands.run(command).await
                }
                // The message may quote a key: only where it went wrong is told.
                Err(err) => Response::failed(format!("no such command (column {})", err.column())),
            }
        } else {
            Response::failed(format!("the command is over {LINE_MAX} bytes, or was cut"))
        };
        zeroize::Zeroize::zeroize(&mut line);
        let mut answer = serde_json::to_vec(&response)?;
        answer.push(b'\n');
        write.write_all(&answer).await?;
    }
}

/// Gives one command to the switch that listens at `path`, and waits for its answer.
///
/// # Errors
///
/// [`CallError`]; a command that fails is a [`Response`].
pub fn call(path: &Path, command: &Command) -> Result<Response, CallError> {
    let no_switch = |err| CallError::NoSwitch(path.to_owned(), err);
    let mut stream = std::os::unix::net::UnixStream::connect(path).map_err(no_switch)?;
    let mut line = zeroize::Zeroizing::new(serde_json::to_vec(command)?);
    line.push(b'\n');
    stream.write_all(&line).map_err(CallError::NoAnswer)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut answer).map_err(CallError::NoAnswer)?;
    if answer.is_empty() {
        return Err(CallError::NoAnswer(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(serde_json::from_str(&answer)?)
}
