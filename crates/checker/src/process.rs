//! Processes from outside: started, asked whether they are ready, frozen, killed.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::web;

/// How often a process that starts is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// Longer than any start takes; only ends a campaign that would never end.
const START_MAX: Duration = Duration::from_secs(60);

/// A child that is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where its standard error goes.
    pub log: PathBuf,
}

/// What a start of the switch came to.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// The moment of exec.
    pub exec: Instant,
    /// From exec to `/readyz` 200.
    pub ready: Duration,
    /// Open payments that it took up, by its own log.
    pub open: u64,
}

impl Process {
    /// Starts `command`; its standard error is appended to `log`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        without_settings(&mut command);
        let errors = OpenOptions::new().create(true).append(true).open(log);
        let errors = errors.with_context(|| log.display().to_string())?;
        let child = command.stdin(Stdio::null()).stderr(errors).spawn();
        let child = child.with_context(|| format!("{} does not start", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// What it writes to standard output, once.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it `signal`.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process number")?;
        kill_process(pid, signal).with_context(|| format!("process {}", self.child.id()))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it had ended by itself: nothing but the checker ends it.
    pub fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the process had ended by itself: {status}; see {}", self.log.display());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether it has ended.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// When it has not within `most`.
    pub async fn wait(&mut self, most: Duration) -> anyhow::Result<ExitStatus> {
        let until = Instant::now() + most;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                bail!("the process has not ended within {most:?}");
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Asks it to stop as a service manager does, and waits.
    ///
    /// # Errors
    ///
    /// When it does not end within `most`, or not with 0.
    pub async fn stop(&mut self, most: Duration) -> anyhow::Result<Duration> {
        let asked = Instant::now();
        self.signal(Signal::TERM)?;
        let status = self.wait(most).await?;
        if !status.success() {
            bail!("the process ended with {status}; see {}", self.log.display());
        }
        Ok(asked.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, or gone now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes the settings of this environment away from `command`: the switch runs by its file alone.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HUFU_")) {
        command.env_remove(name);
    }
}

/// Starts `hufu serve` and waits until `/readyz` says 200.
///
/// # Errors
///
/// When it ends, or is not ready within a minute.
pub async fn serve(
    hufu: &Path,
    config: &Path,
    admin: SocketAddr,
    log: &Path,
) -> anyhow::Result<(Process, Started)> {
    let before = std::fs::metadata(log).map_or(0, |file| file.len());
    let (mut process, began) = exec(hufu, config, log)?;
    loop {
        if matches!(web::get(admin, "/readyz").await, Ok((200, _))) {
            break;
        }
        if let Some(status) = process.ended()? {
            bail!("the switch does not start: {status}; see {}", log.display());
        }
        if began.elapsed() > START_MAX {
            bail!("the switch is not ready within {START_MAX:?}; see {}", log.display());
        }
        sleep(ASK_EVERY).await;
    }
    let ready = began.elapsed();
    let open = taken_up(log, before).await?;
    Ok((process, Started { exec: began, ready, open }))
}

/// Starts `hufu serve` and does not wait.
///
/// # Errors
///
/// When it cannot be started.
pub fn exec(hufu: &Path, config: &Path, log: &Path) -> anyhow::Result<(Process, Instant)> {
    File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(hufu);
    command.arg("serve").arg("--config").arg(config).stdout(Stdio::null());
    let began = Instant::now();
    Ok((Process::spawn(command, log)?, began))
}

/// How many open payments the newest start in `log` took up.
async fn taken_up(log: &Path, from: u64) -> anyhow::Result<u64> {
    let from = usize::try_from(from)?;
    // The line is written in the moment in which the probes are served.
    for _ in 0..500 {
        let text = std::fs::read(log)?;
        let text = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned();
        let ready = text.lines().rev().find(|line| line.contains("the switch is ready"));
        let line = ready.and_then(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(open) = line.and_then(|line| line.get("open_payments").and_then(Value::as_u64)) {
            return Ok(open);
        }
        sleep(ASK_EVERY).await;
    }
    bail!("{}: the switch never says that it is ready", log.display())
}

/// The lines of the logs in `folder` that name `number`, at most `most`.
#[must_use]
pub fn lines_about(folder: &Path, number: &str, most: usize) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let logs = files.flatten().map(|file| file.path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let mut lines = Vec::new();
    for log in logs {
        let text = std::fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        lines.extend(text.lines().filter(|line| line.contains(number)).map(str::to_owned));
    }
    lines.truncate(most);
    lines
}
