//! Reads of the store, on threads of their own: SQLite blocks, and the runtime must not.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender};
use protocol::TransactionId;
use state_machine::{MerchantId, OrderKey, Record};
use store::{Cursor, EventQuery, Events, Filter, SqliteReader, StoreError};
use tokio::sync::oneshot;

use crate::engine::{ListRequest, Listing, StoreDown};

/// Reads that may wait; more are told that the store does not answer.
const LOOKUPS_MAX: usize = 10_000;

type Job = Box<dyn FnOnce(&mut SqliteReader) + Send>;
/// What a lookup answers with.
pub(super) type Found<T> = oneshot::Receiver<Result<T, StoreDown>>;

/// The readers of the store.
#[derive(Debug)]
pub(super) struct Lookups {
    jobs: Sender<Job>,
}

impl Lookups {
    /// Starts one thread for each of `readers`; they end when this is dropped.
    pub(super) fn start(readers: Vec<SqliteReader>) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (jobs, queue) = crossbeam::channel::bounded::<Job>(LOOKUPS_MAX);
        let threads = readers.into_iter().enumerate().map(|(number, reader)| {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name(format!("hufu-lookup-{number}"))
                .spawn(move || serve(&queue, reader))
        });
        Ok((Self { jobs }, threads.collect::<Result<_, _>>()?))
    }

    /// Asks, and lets the answer come later. What cannot be asked, or is damaged, is a store that does not
    /// answer: nobody is told an outcome that is not certain.
    fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut SqliteReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Found<T> {
        let (answer, found) = oneshot::channel();
        let job: Job = Box::new(move |reader| {
            let result = read(reader).map_err(|error| {
                tracing::error!(%error, "a lookup failed");
                StoreDown
            });
            drop(answer.send(result));
        });
        // A full queue drops the job, and with it the sender: StoreDown.
        drop(self.jobs.try_send(job));
        found
    }

    pub(super) fn find(&self, key: OrderKey) -> Found<Option<Arc<Record>>> {
        self.ask(move |reader| Ok(reader.find(&key)?.map(Arc::new)))
    }

    pub(super) fn find_by_transaction(
        &self,
        merchant: MerchantId,
        id: TransactionId,
    ) -> Found<Option<Arc<Record>>> {
        self.ask(move |reader| Ok(reader.find_by_transaction(merchant, &id)?.map(Arc::new)))
    }

    /// Reads until `limit` records match.
    pub(super) fn list(&self, request: ListRequest) -> Found<Vec<Arc<Record>>> {
        self.ask(move |reader| {
            let mut filter = Filter {
                merchant: request.merchant,
                held_only: matches!(request.listing, Listing::Held),
                newest_first: true,
                ..Filter::default()
            };
            let mut records = Vec::new();
            loop {
                let page = reader.list(&filter)?;
                let wanted = |record: &Record| match request.listing {
                    Listing::Open => record.is_open(),
                    Listing::Held | Listing::All => true,
                };
                records.extend(page.records.into_iter().filter(wanted).map(Arc::new));
                let next: Option<Cursor> = page.next.filter(|_| records.len() < request.limit);
                match next {
                    Some(next) => filter.after = Some(next),
                    None => break,
                }
            }
            records.truncate(request.limit);
            Ok(records)
        })
    }

    pub(super) fn page(&self, filter: Filter) -> Found<store::Listing> {
        self.ask(move |reader| reader.list(&filter))
    }

    pub(super) fn events(&self, query: EventQuery) -> Found<Events> {
        self.ask(move |reader| reader.events(&query))
    }

    /// Reads an order whose outcome somebody waits for. `false` if too many wait: `tell` is dropped.
    #[must_use]
    pub(super) fn answer_watch(
        &self,
        key: OrderKey,
        tell: impl FnOnce(Option<Arc<Record>>) + Send + 'static,
    ) -> bool {
        let job: Job = Box::new(move |reader| tell(reader.find(&key).ok().flatten().map(Arc::new)));
        self.jobs.try_send(job).is_ok()
    }
}

fn serve(queue: &Receiver<Job>, mut reader: SqliteReader) {
    for job in queue {
        job(&mut reader);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::{LOOKUPS_MAX, Lookups};
    use crate::driver::tests::record;

    #[test]
    fn as_many_lookups_wait_as_may_and_more_are_told_at_once() {
        let _covers = covers::covers(&["DB-13", "INV-24"]);
        let (jobs, queue) = crossbeam::channel::bounded(LOOKUPS_MAX);
        let lookups = Lookups { jobs };
        let key = record("P00001").key;
        let mut waiting: Vec<_> = (0..LOOKUPS_MAX).map(|_| lookups.find(key)).collect();
        assert!(matches!(lookups.find(key).try_recv(), Err(TryRecvError::Closed)), "StoreDown, at once");
        assert!(waiting.iter_mut().all(|found| matches!(found.try_recv(), Err(TryRecvError::Empty))));
        assert!(!lookups.answer_watch(key, |_| panic!("nobody reads it")), "its ticket is to be closed");
        // A reader takes one: there is room for another.
        drop(queue.recv());
        assert!(matches!(lookups.find(key).try_recv(), Err(TryRecvError::Empty)));
    }
}
