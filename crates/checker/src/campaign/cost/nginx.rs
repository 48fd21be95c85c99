//! nginx as it is set up where it does nothing but hand requests on: the yardstick.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::process::Process;

/// How long it may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// nginx at work.
pub(super) struct Nginx {
    pub(super) address: SocketAddr,
    process: Process,
}

/// The program: as named, in the path, or where `tests/nginx/get` has unpacked it.
pub(super) fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?;
    let unpacked = beside.ancestors().nth(2).map(|target| target.join("nginx/root/usr/sbin/nginx"));
    let places = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"].map(PathBuf::from);
    let mut all = named.map(Path::to_owned).into_iter().chain(places).chain(unpacked);
    all.find(|path| path.exists())
        .context("nginx is not here: run tests/nginx/get, which unpacks it, or name it with --nginx")
}

impl Nginx {
    /// Starts it with `workers` in front of the wallet at `wallet`, whose authority is `pki/ca.pem` in `folder`.
    pub(super) async fn start(
        program: &Path,
        folder: &Path,
        address: SocketAddr,
        wallet: SocketAddr,
        workers: usize,
    ) -> anyhow::Result<Self> {
        let own = folder.join("nginx");
        std::fs::create_dir_all(own.join("tmp"))?;
        let config = own.join("nginx.conf");
        std::fs::write(&config, settings(&own, &folder.join("pki/ca.pem"), address, wallet, workers))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(&own).arg("-c").arg(&config).arg("-e").arg(own.join("error.log"));
        command.stdout(Stdio::null());
        let process = Process::spawn(command, &folder.join("nginx.log"))?;
        let nginx = Self { address, process };
        nginx.started(workers).await
    }

    /// Waits until it listens and all its workers are there: before that the master listens alone.
    async fn started(mut self, workers: usize) -> anyhow::Result<Self> {
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_err() || self.pids()?.len() <= workers {
            let process = &mut self.process;
            if let Some(status) = process.ended()? {
                bail!("nginx does not start: {status}; see {}", process.log.display());
            }
            if began.elapsed() > START_MAX {
                bail!("nginx does not listen within {START_MAX:?}; see {}", process.log.display());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(self)
    }

    /// The master and its workers.
    pub(super) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        let master = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        let children = children.split_whitespace().map(str::parse::<u32>).collect::<Result<Vec<_>, _>>()?;
        Ok(std::iter::once(master).chain(children).collect())
    }

    /// Asks it to end, workers and all.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.process.stop(Duration::from_secs(20)).await.map(drop)
    }
}

/// Each worker may keep as many connections to the wallet as there can be requests; none is closed for its age.
fn settings(own: &Path, ca: &Path, address: SocketAddr, wallet: SocketAddr, workers: usize) -> String {
    // Workers of root would give themselves away to somebody who may not read this folder.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let at = |path: PathBuf| path.display().to_string();
    format!(
        r#"daemon off;
{user}worker_processes {workers};
pid {pid};
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {tmp};
  proxy_temp_path {tmp};
  fastcgi_temp_path {tmp};
  uwsgi_temp_path {tmp};
  scgi_temp_path {tmp};
  client_body_buffer_size 16k;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  upstream wallet {{
    server {wallet};
    keepalive 256;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
  }}
  server {{
    listen {address};
    location / {{
      proxy_pass https://wallet;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host {wallet};
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {ca};
      # It compares names only; the certificate is for this one and for the address.
      proxy_ssl_name localhost;
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
    }}
  }}
}}
"#,
        pid = at(own.join("nginx.pid")),
        tmp = at(own.join("tmp")),
        ca = ca.display(),
    )
}
