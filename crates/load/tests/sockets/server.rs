//! A server of the V2 API with one answer, which can freeze, be slow, or break connections.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use protocol::xml::Writer;
use signer::{Key, Kind, Scratch};

pub(crate) const KEY: &str = "SandboxSigningKeyOfMerchant00001";

/// What the server does with a request before it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whim {
    /// Nothing.
    Prompt,
    /// At the `at`-th request it stops, with all its connections, for so long.
    Freezes { at: u64, for_: Duration },
    /// Takes so long for each.
    Slow(Duration),
    /// Closes every so manieth connection instead of answering.
    Hangs(u64),
}

/// Serves for ever, a thread for each connection.
pub(crate) fn serve(whim: Whim) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (asked, frozen) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(())));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (asked, frozen) = (Arc::clone(&asked), Arc::clone(&frozen));
            std::thread::spawn(move || connection(stream, whim, &asked, &frozen));
        }
    });
    address
}

fn connection(mut stream: TcpStream, whim: Whim, asked: &AtomicU64, frozen: &Mutex<()>) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let body = answer();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    while request(&mut reader).is_some() {
        let n = asked.fetch_add(1, Ordering::Relaxed) + 1;
        match whim {
            Whim::Prompt => {}
            Whim::Slow(pause) => sleep(pause),
            Whim::Freezes { at, for_ } => {
                let guard = frozen.lock().expect("nobody panics");
                if n == at {
                    sleep(for_);
                }
                drop(guard);
            }
            Whim::Hangs(every) if n.is_multiple_of(every) => return,
            Whim::Hangs(_) => {}
        }
        if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}

/// Reads a request; `None` at the end.
fn request(reader: &mut BufReader<TcpStream>) -> Option<()> {
    let mut len = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            len = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()
}

/// Paid, 100 fen, signed.
fn answer() -> Vec<u8> {
    let pairs = [("return_code", "SUCCESS"), ("result_code", "SUCCESS"), ("total_fee", "100")];
    let sign = Key::new(KEY).expect("a key").sign(Kind::Md5, pairs, &mut Scratch::new());
    let mut body = Vec::new();
    let mut writer = Writer::new(&mut body);
    for (name, value) in pairs {
        writer.text(name, value);
    }
    writer.text("sign", sign.as_str());
    writer.finish();
    body
}
