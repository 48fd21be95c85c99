//! `hufu serve` as a process: its settings, its address, what it logs.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use crate::support::{DEADLINE, Running, http, hufu, settings, signal};

/// A wallet in a process of its own, its delays `speed` times shorter.
pub(crate) fn wallet(speed: &str) -> Running {
    Running::start(&["simulate", "--listen", "127.0.0.1:0", "--speed", speed, "--json"])
}

/// Settings in `folder` for a switch before `wallet`, with `more` sections, and their path.
pub(crate) fn settings_before(folder: &Path, wallet: &Running, more: &str) -> String {
    let path = settings(folder);
    let text = std::fs::read_to_string(&path).expect("read");
    let head = text.split("[[provider]]").next().expect("a head");
    let key_file = folder.join("provider.key");
    std::fs::write(&key_file, wallet.text("key")).expect("written");
    let text = format!(
        "{head}{more}\n[log]\nformat = \"json\"\n[[provider]]\nmch_id = {:?}\nappid = {:?}\nkey_file = {key_file:?}\n\
         hosts = [{:?}]\nca_file = {:?}\nclient_cert_file = {:?}\nclient_key_file = {:?}\n\n\
         [provider.quota]\npay_per_second = 1000\nquery_per_second = 2000\nreverse_per_second = 1000\n",
        wallet.text("mch_id"),
        wallet.text("appid"),
        wallet.text("wallet_tls"),
        wallet.text("ca_file"),
        wallet.text("client_cert_file"),
        wallet.text("client_key_file"),
    );
    std::fs::write(&path, text).expect("written");
    path
}

/// A switch that runs until it is killed or stopped.
pub(crate) struct Serving {
    child: Child,
    log: Arc<Log>,
    /// Where tills connect, as `address:port`.
    pub(crate) gateway: String,
    /// Where metrics are, as `address:port`.
    pub(crate) admin: String,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    /// Waits for what `find` finds in the lines.
    fn until<T>(&self, what: &str, mut find: impl FnMut(&[String]) -> Option<T>) -> T {
        let lines = self.lines.lock().expect("whole");
        let mut found = None;
        let (lines, _) = self
            .more
            .wait_timeout_while(lines, DEADLINE, |lines| {
                found = find(lines);
                found.is_none()
            })
            .expect("whole");
        found.unwrap_or_else(|| panic!("{what} is never logged:\n{}", lines.join("\n")))
    }
}

impl Serving {
    /// Starts `hufu serve` and waits until it says that it is ready.
    pub(crate) fn start(config: &str) -> Self {
        let mut command = hufu(&["serve", "--config", config]);
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let (log, errors) = (Arc::new(Log::default()), child.stderr.take().expect("piped"));
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                written.lines.lock().expect("whole").push(line);
                written.more.notify_all();
            }
        });
        let mut serving = Self { child, log, gateway: String::new(), admin: String::new() };
        let ready = serving.log.until("\"the switch is ready\"", |lines| {
            let ready = lines.iter().find(|line| line.contains("the switch is ready"))?;
            serde_json::from_str::<Value>(ready).ok()
        });
        let address = |name: &str| ready[name].as_str().unwrap_or_else(|| panic!("{ready}")).to_owned();
        (serving.gateway, serving.admin) = (address("gateway"), address("admin"));
        serving
    }

    /// How many lines hold `text`.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log.lines.lock().expect("whole").iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until `count` lines hold `text`.
    pub(crate) fn until_logged(&self, text: &str, count: usize) {
        self.log.until(text, |lines| {
            (lines.iter().filter(|line| line.contains(text)).count() >= count).then_some(())
        });
    }

    /// The value of a metric, with its labels as they are written.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (_, text) = http(&format!("http://{}/metrics", self.admin), "GET", "");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in\n{text}"))
    }

    /// Sends it a signal by its name.
    pub(crate) fn signal(&self, kind: &str) {
        signal(kind, self.child.id());
    }

    /// `kill -9`; returns when it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("SIGKILL is sent");
        self.child.wait().expect("it is gone");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
