//! A connection's bytes: TCP, or TLS over it, never blocking.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// A connection.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    connected: bool,
}

impl Stream {
    /// Begins to connect.
    pub(crate) fn connect(
        address: SocketAddr,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> io::Result<Self> {
        let tls = tls.map(|(config, name)| ClientConnection::new(config, name).map_err(io::Error::other));
        let tls = tls.transpose()?.map(Box::new);
        Ok(Self { socket: TcpStream::connect(address)?, tls, connected: false })
    }

    pub(crate) const fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Goes on connecting and shaking hands; whether that is done.
    pub(crate) fn ready(&mut self) -> io::Result<bool> {
        if !self.connected {
            if let Some(err) = self.socket.take_error()? {
                return Err(err);
            }
            match self.socket.peer_addr() {
                Ok(_) => self.connected = true,
                Err(err) if err.kind() == io::ErrorKind::NotConnected => return Ok(false),
                Err(err) => return Err(err),
            }
            // Small requests would wait for the peer's acknowledgement.
            self.socket.set_nodelay(true)?;
        }
        match &mut self.tls {
            Some(tls) if tls.is_handshaking() => match tls.complete_io(&mut self.socket) {
                Ok(_) => Ok(!tls.is_handshaking()),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(false),
                Err(err) => Err(err),
            },
            Some(_) | None => Ok(true),
        }
    }

    /// Writes what the peer takes now; over TLS, what fits into its buffer.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => {
                let written = tls.writer().write(bytes)?;
                flush(tls, &mut self.socket)?;
                Ok(written)
            }
        }
    }

    /// Writes what is left in the buffer of TLS.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| flush(tls, &mut self.socket))
    }

    /// Reads what has come; 0 at the end. The second says whether nothing more can have come, so that asking again
    /// is not worth it.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> io::Result<(usize, bool)> {
        let Some(tls) = &mut self.tls else {
            let read = self.socket.read(room)?;
            return Ok((read, read < room.len()));
        };
        loop {
            match tls.reader().read(room) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(|read| (read, false)),
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok((0, true));
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            flush(tls, &mut self.socket)?;
        }
    }
}

fn flush(tls: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
