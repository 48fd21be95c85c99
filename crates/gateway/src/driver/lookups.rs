//! Reads of the store, on threads of their own: SQLite blocks, and the runtime must not.
//!
//! There are two queues. What a till waits for is one row; a page of a list or of a stream of events is up to hundreds,
//! and an operator's list a thousand. So pages have a queue and a thread of their own, and however many of them wait, a
//! till's row does not.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender};
use protocol::TransactionId;
use state_machine::{MerchantId, OrderKey, Record};
use store::{Cursor, EventQuery, Events, Filter, SqliteReader, StoreError};
use tokio::sync::oneshot;

use crate::engine::{ListRequest, Listing, StoreDown};
use crate::metrics::{self, LookupQueue};

/// Threads that read single rows for tills.
pub(super) const ROW_THREADS: usize = 2;
/// Reads of single rows that may wait; more are told that the store does not answer.
pub const ROWS_MAX: usize = 10_000;
/// Reads of pages that may wait: as many as there may be streams by default, twice over. More are told to come again.
pub const PAGES_MAX: usize = 10_000;

type Job = Box<dyn FnOnce(&mut SqliteReader) + Send>;
/// What a lookup answers with.
pub(super) type Found<T> = oneshot::Receiver<Result<T, StoreDown>>;

/// The readers of the store.
#[derive(Debug)]
pub(super) struct Lookups {
    rows: Queue,
    pages: Queue,
}

/// Reads that wait for a thread.
#[derive(Debug)]
struct Queue {
    jobs: Sender<Job>,
    which: LookupQueue,
}

impl Queue {
    fn new(which: LookupQueue, max: usize) -> (Self, Receiver<Job>) {
        let (jobs, queue) = crossbeam::channel::bounded(max);
        (Self { jobs, which }, queue)
    }

    /// Hands a read in. A full queue drops it at once, and with it whoever would have been told.
    fn push(&self, job: Job) -> bool {
        let taken = self.jobs.try_send(job).is_ok();
        if !taken {
            metrics::lookup_refused(self.which);
        }
        taken
    }

    /// Asks, and lets the answer come later. What cannot be asked, or is damaged, is a store that does not
    /// answer: nobody is told an outcome that is not certain.
    fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut SqliteReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Found<T> {
        let (answer, found) = oneshot::channel();
        self.push(Box::new(move |reader| {
            let result = read(reader).map_err(|error| {
                tracing::error!(%error, "a lookup failed");
                StoreDown
            });
            drop(answer.send(result));
        }));
        found
    }
}

impl Lookups {
    /// Starts one thread for each of `rows`, and one for `pages`; they end when this is dropped.
    pub(super) fn start(
        rows: Vec<SqliteReader>,
        pages: SqliteReader,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (row_queue, row_jobs) = Queue::new(LookupQueue::Rows, ROWS_MAX);
        let (page_queue, page_jobs) = Queue::new(LookupQueue::Pages, PAGES_MAX);
        let mut readers: Vec<_> = rows.into_iter().map(|reader| (row_jobs.clone(), reader)).collect();
        readers.push((page_jobs, pages));
        let threads = readers.into_iter().enumerate().map(|(number, (jobs, reader))| {
            std::thread::Builder::new()
                .name(format!("hufu-lookup-{number}"))
                .spawn(move || serve(&jobs, reader))
        });
        Ok((Self { rows: row_queue, pages: page_queue }, threads.collect::<Result<_, _>>()?))
    }

    /// How many reads wait, in the order of [`LookupQueue::ALL`].
    pub(super) fn depths(&self) -> [usize; LookupQueue::ALL.len()] {
        [self.rows.jobs.len(), self.pages.jobs.len()]
    }

    pub(super) fn find(&self, key: OrderKey) -> Found<Option<Arc<Record>>> {
        self.rows.ask(move |reader| Ok(reader.find(&key)?.map(Arc::new)))
    }

    pub(super) fn find_by_transaction(
        &self,
        merchant: MerchantId,
        id: TransactionId,
    ) -> Found<Option<Arc<Record>>> {
        self.rows.ask(move |reader| Ok(reader.find_by_transaction(merchant, &id)?.map(Arc::new)))
    }

    /// Reads until `limit` records match.
    pub(super) fn list(&self, request: ListRequest) -> Found<Vec<Arc<Record>>> {
        self.pages.ask(move |reader| {
            let mut filter = Filter {
                merchant: request.merchant,
                held_only: matches!(request.listing, Listing::Held),
                open_only: matches!(request.listing, Listing::Open),
                newest_first: true,
                limit: u32::try_from(request.limit).unwrap_or(0),
                ..Filter::default()
            };
            let mut records = Vec::new();
            loop {
                let page = reader.list(&filter)?;
                records.extend(page.records.into_iter().map(Arc::new));
                // Rows that are damaged are not among them.
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
        self.pages.ask(move |reader| reader.list(&filter))
    }

    pub(super) fn events(&self, query: EventQuery) -> Found<Events> {
        self.pages.ask(move |reader| reader.events(&query))
    }

    /// Reads an order whose outcome somebody waits for. `false` if too many wait: `tell` is dropped.
    #[must_use]
    pub(super) fn answer_watch(
        &self,
        key: OrderKey,
        tell: impl FnOnce(Option<Arc<Record>>) + Send + 'static,
    ) -> bool {
        self.rows.push(Box::new(move |reader| tell(reader.find(&key).ok().flatten().map(Arc::new))))
    }
}

fn serve(queue: &Receiver<Job>, mut reader: SqliteReader) {
    for job in queue {
        job(&mut reader);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use state_machine::record::Held;
    use store::{Options, SealKey, SqliteStore, Store as _};
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::driver::tests::record;

    /// Lookups that nobody serves.
    fn unserved() -> (Lookups, [Receiver<Job>; 2]) {
        let (rows, row_jobs) = Queue::new(LookupQueue::Rows, ROWS_MAX);
        let (pages, page_jobs) = Queue::new(LookupQueue::Pages, PAGES_MAX);
        (Lookups { rows, pages }, [row_jobs, page_jobs])
    }

    fn events(number: &str) -> EventQuery {
        EventQuery { merchant: record(number).key.merchant, number: None, after: 0, limit: 10 }
    }

    #[test]
    fn as_many_rows_are_waited_for_as_may_be_and_more_are_told_at_once() {
        let _covers = covers::covers(&["DB-13", "INV-24"]);
        let (lookups, [jobs, _pages]) = unserved();
        let key = record("P00001").key;
        let mut waiting: Vec<_> = (0..ROWS_MAX).map(|_| lookups.find(key)).collect();
        assert!(matches!(lookups.find(key).try_recv(), Err(TryRecvError::Closed)), "StoreDown, at once");
        assert!(waiting.iter_mut().all(|found| matches!(found.try_recv(), Err(TryRecvError::Empty))));
        assert!(!lookups.answer_watch(key, |_| panic!("nobody reads it")), "its ticket is to be closed");
        assert_eq!(lookups.depths(), [ROWS_MAX, 0]);
        // A reader takes one: there is room for another.
        drop(jobs.recv());
        assert!(matches!(lookups.find(key).try_recv(), Err(TryRecvError::Empty)));
    }

    #[test]
    fn as_many_pages_are_waited_for_as_may_be_and_rows_have_room_all_the_same() {
        let _covers = covers::covers(&["DB-13", "INV-24"]);
        let (lookups, _jobs) = unserved();
        let waiting: Vec<_> = (0..PAGES_MAX).map(|_| lookups.events(events("P00001"))).collect();
        let request = ListRequest { merchant: None, listing: Listing::Held, limit: 10 };
        assert!(matches!(lookups.list(request).try_recv(), Err(TryRecvError::Closed)));
        assert!(matches!(lookups.page(Filter::default()).try_recv(), Err(TryRecvError::Closed)));
        assert!(matches!(lookups.events(events("P00001")).try_recv(), Err(TryRecvError::Closed)));
        assert_eq!(lookups.depths(), [0, PAGES_MAX]);
        assert!(matches!(lookups.find(record("P00001").key).try_recv(), Err(TryRecvError::Empty)));
        drop(waiting);
    }

    /// A store with these records, its readers at work.
    fn served(records: &[Record]) -> (Lookups, SqliteStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a folder");
        let key = SealKey::from_hex(&"0f".repeat(32)).expect("a key");
        let mut store =
            SqliteStore::open(&dir.path().join("hufu.db"), &key, Options::default()).expect("a store");
        let records: Vec<_> = records.iter().cloned().map(Arc::new).collect();
        store.commit(&records).expect("taken");
        let reader = || store.reader().expect("a reader");
        let (lookups, _) =
            Lookups::start((0..ROW_THREADS).map(|_| reader()).collect(), reader()).expect("threads");
        (lookups, store, dir)
    }

    #[test]
    fn a_row_is_read_while_pages_are() {
        let _covers = covers::covers(&["DB-13"]);
        let known = record("P00001");
        let (lookups, _store, _dir) = served(std::slice::from_ref(&known));
        // More of them than there are threads in all, none of which ends before the row has been read.
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let pages: Vec<_> = (0..=ROW_THREADS + 1)
            .map(|_| {
                let wait = Arc::clone(&wait);
                lookups.pages.ask(move |reader| {
                    wait.lock().expect("no panic").recv().expect("told to go on");
                    reader.list(&Filter::default())
                })
            })
            .collect();
        let found = lookups.find(known.key).blocking_recv().expect("an answer").expect("a store");
        assert_eq!(found.as_deref(), Some(&known));
        for page in pages {
            go_on.send(()).expect("they wait");
            assert_eq!(page.blocking_recv().expect("an answer").expect("a store").records.len(), 1);
        }
    }

    #[test]
    fn an_operators_list_holds_what_it_names() {
        let held = Record { held: Some(Held::Differs), ..record("P00002") };
        let done = Record { state: state_machine::record::State::Failed, ..record("P00003") };
        let (lookups, _store, _dir) = served(&[record("P00001"), held, done]);
        let numbers = |listing, limit| {
            let request = ListRequest { merchant: None, listing, limit };
            let found = lookups.list(request).blocking_recv().expect("an answer").expect("a store");
            let mut numbers: Vec<_> = found.iter().map(|record| record.key.number.to_string()).collect();
            numbers.sort();
            numbers
        };
        assert_eq!(numbers(Listing::Held, 10), ["P00002"]);
        assert_eq!(numbers(Listing::Open, 10), ["P00001", "P00002"]);
        assert_eq!(numbers(Listing::All, 10), ["P00001", "P00002", "P00003"]);
        assert_eq!(numbers(Listing::All, 2).len(), 2);
    }
}
