//! Starting the binary, and not waiting for ever.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// Longer than anything takes here on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The binary with `args` and nothing of this environment's settings.
pub(crate) fn hufu(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hufu"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HUFU_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// What a command that ends by itself came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Every line of standard output as JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Done {
    finish(hufu(args))
}

/// As [`run`], for a command that needs more than arguments.
pub(crate) fn finish(mut command: Command) -> Done {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the binary starts");
    let id = child.id();
    let output: Output = within(id, move || child.wait_with_output().expect("it ends"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Done {
        code: output.status.code().expect("not killed"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// A command that stays until it is stopped.
pub(crate) struct Running {
    child: Option<Child>,
    /// Its first line of standard output.
    pub(crate) ready: Value,
}

impl Running {
    /// Starts it and waits for its first line.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child =
            hufu(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let line = within(child.id(), move || {
            let mut line = String::new();
            lines.read_line(&mut line).expect("UTF-8");
            line
        });
        Self { child: Some(child), ready: serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}")) }
    }

    /// A text of the first line.
    pub(crate) fn text(&self, name: &str) -> String {
        self.ready[name].as_str().unwrap_or_else(|| panic!("{name} in {}", self.ready)).to_owned()
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let mut child = self.child.take().expect("not stopped yet");
        let id = child.id();
        signal("-TERM", id);
        within(id, move || child.wait().expect("it ends"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a process a signal by its name.
pub(crate) fn signal(kind: &str, id: u32) {
    let sent = Command::new("kill").args([kind, &id.to_string()]).status().expect("kill starts");
    assert!(sent.success(), "process {id} is gone");
}

/// Does what may block; a process that keeps it blocked is killed.
fn within<T: Send + 'static>(id: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        signal("-KILL", id);
        panic!("process {id} took longer than {DEADLINE:?}")
    })
}

/// One HTTP request; the status and the body.
pub(crate) fn http(url: &str, head: &str, body: &str) -> (u16, String) {
    let rest = url.strip_prefix("http://").expect("plain HTTP");
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let mut stream = TcpStream::connect(host).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let (method, fields) = head.split_once('\n').unwrap_or((head, ""));
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n{body}",
        body.len(),
        fields.lines().map(|line| format!("{line}\r\n")).collect::<String>(),
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { whole(body) } else { body.to_owned() };
    (head.get(9..12).and_then(|status| status.parse().ok()).expect("a status"), body)
}

/// Puts a chunked body together.
fn whole(chunked: &str) -> String {
    let mut rest = chunked;
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal size");
        if size == 0 {
            return body;
        }
        body.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").expect("a chunk's end");
    }
}

/// A settings file for a switch in `folder` that nobody has started, and its path.
pub(crate) fn settings(folder: &Path) -> String {
    use std::os::unix::fs::OpenOptionsExt as _;
    for (name, secret) in [("seal.key", "5a".repeat(32)), ("provider.key", "k".repeat(32))] {
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(folder.join(name)).expect("a new file");
        file.write_all(secret.as_bytes()).expect("written");
    }
    let at = |name: &str| format!("{:?}", folder.join(name).to_str().expect("UTF-8"));
    let text = format!(
        "mode = \"sandbox\"\n[listen]\ngateway = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nadmin_socket = {}\n\
         [store]\npath = {}\nseal_key_file = {}\n[[provider]]\nmch_id = \"1900000109\"\nappid = \"wx01\"\n\
         key_file = {}\nhosts = [\"http://127.0.0.1:9\"]\n",
        at("admin.sock"),
        at("hufu.db"),
        at("seal.key"),
        at("provider.key"),
    );
    let path = folder.join("hufu.toml");
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}
