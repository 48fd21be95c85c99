//! How much of what was written to a TCP socket its peer has not acknowledged.
//!
//! An answer that was written may still be lost: it lies in the kernel's queue until the peer's kernel has it. Nothing
//! in the standard library or in the crates that this project takes asks for that, so it is asked for here, with the
//! one `ioctl` that tells (tcp(7), `SIOCOUTQ`).

use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ` is `TIOCOUTQ` of the terminals. Source: linux/sockios.h, asm-generic/ioctls.h.
const SIOCOUTQ: Opcode = 0x5411;

/// Bytes that were written to `socket` and not acknowledged yet; the end of the stream counts as one.
///
/// # Errors
///
/// What the system says of something that is no TCP socket.
#[expect(unsafe_code, reason = "no safe interface asks for this")]
pub fn unacknowledged(socket: impl AsFd) -> Result<u32> {
    // SAFETY: the opcode is valid for every descriptor that the kernel accepts it for, and it then writes one `int`
    // (linux/net/ipv4/tcp.c, `tcp_ioctl`); for any other it fails and writes nothing.
    let bytes: i32 = unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) }?;
    Ok(u32::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::unacknowledged;

    #[test]
    fn what_the_peer_has_no_room_for_is_not_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut one = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (mut other, _) = listener.accept().expect("the same");
        assert_eq!(unacknowledged(&one), Ok(0));
        // More than both kernels keep: what is left over waits for the peer.
        one.set_nonblocking(true).expect("a socket");
        let written = (0..4_096).map_while(|_| one.write(&[7; 16_384]).ok()).sum::<usize>();
        assert!(unacknowledged(&one).expect("a count") > 0, "{written}");
        one.set_nonblocking(false).expect("a socket");
        one.shutdown(Shutdown::Write).expect("an end");
        let mut read = Vec::new();
        other.read_to_end(&mut read).expect("all of it");
        assert_eq!(read.len(), written);
        // The peer has read it all and the end with it: its kernel has said so.
        other.write_all(b"x").expect("an answer");
        one.read_exact(&mut [0]).expect("the answer, and the acknowledgement that it bears");
        assert_eq!(unacknowledged(&one), Ok(0));
    }

    #[test]
    fn a_file_is_no_socket() {
        let file = std::fs::File::open("/dev/null").expect("a file");
        assert!(unacknowledged(&file).is_err());
    }
}
