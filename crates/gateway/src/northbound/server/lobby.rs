//! Where connections stay until somebody on them has shown to be a till.
//!
//! Handshakes cost more than anything else that a stranger can ask for, and whoever is closed comes again. So they are
//! done by threads that take what processor the tills' leave: a connection that is proven goes over to the tills', with
//! the request that proved it. Source: faults-and-invariants NM-05, NM-07, INV-24.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;

use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle, Runtime};

use super::super::guard::Link;

/// How much less a lobby's threads weigh: beside busy ones of the tills they still get a quarter of a processor, so that
/// a till that comes anew gets in.
const NICE: i32 = 5;

/// Threads for connections of which nobody knows who is on them; those that are still there are cut off when it is
/// dropped.
#[derive(Debug)]
pub(super) struct Lobby {
    runtime: Option<Runtime>,
    tills: Handle,
}

impl Lobby {
    /// One for the listener of the current runtime.
    ///
    /// # Errors
    ///
    /// When its threads cannot be started.
    pub(super) fn open() -> io::Result<Self> {
        // A test reads the log of its own thread.
        #[cfg(test)]
        let log = tracing::dispatcher::get_default(Clone::clone);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(processors.div_ceil(2))
            .thread_name("hufu-lobby")
            .on_thread_start(move || {
                #[cfg(test)]
                std::mem::forget(tracing::dispatcher::set_default(&log));
                // Of this thread alone. Where that is refused, it only weighs as much as the tills'.
                let _ = setpriority_process(None, NICE);
            })
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime), tills: Handle::current() })
    }

    /// Runs a connection here until its `link` is proven, and from then on among the tills.
    pub(super) fn enter(&self, link: Arc<Link>, connection: impl Future<Output = ()> + Send + 'static) {
        let Some(runtime) = &self.runtime else { return };
        let tills = self.tills.clone();
        let mut connection = Some(Box::pin(connection));
        runtime.spawn(async move {
            let proven = poll_fn(|context| {
                let Some(inside) = &mut connection else { return Poll::Ready(None) };
                // Timers and tasks that it begins here, as HTTP/2 does for each request, are the tills': they outlast
                // the lobby.
                let _tills = tills.enter();
                match inside.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(None),
                    Poll::Pending if link.is_proven() => Poll::Ready(connection.take()),
                    Poll::Pending => Poll::Pending,
                }
            });
            if let Some(connection) = proven.await {
                // Its first poll there has it woken there.
                tills.spawn(connection);
            }
        });
    }
}

impl Drop for Lobby {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nobody may wait in a task for threads to end.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::{Instant, sleep};

    use super::{Link, Lobby};

    /// A deadline that began in the lobby holds among the tills, also when there is no lobby any more.
    #[tokio::test]
    async fn what_has_left_the_lobby_outlasts_it() {
        let lobby = Lobby::open().unwrap();
        let link = Arc::new(Link::new(Instant::now(), false));
        let ((left, has_left), (ended, has_ended)) = (oneshot::channel(), oneshot::channel());
        let proving = Arc::clone(&link);
        lobby.enter(link, async move {
            let mut deadline = std::pin::pin!(sleep(Duration::from_millis(100)));
            assert!(
                std::future::poll_fn(|context| std::task::Poll::Ready(deadline.as_mut().poll(context)))
                    .await
                    .is_pending()
            );
            proving.prove();
            tokio::task::yield_now().await;
            left.send(()).unwrap();
            deadline.await;
            ended.send(()).unwrap();
        });
        has_left.await.unwrap();
        drop(lobby);
        has_ended.await.expect("the connection goes on");
    }
}
