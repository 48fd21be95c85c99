//! Queues of timers, in chunks of one pool.
#![expect(
    clippy::indexing_slicing,
    reason = "a chunk that is not there is a bug in here: passed over, its timers would be deadlines lost"
)]

use std::hint::black_box;
use std::ops::Range;

use crate::free::{FreePlaces, Run};

/// No chunk: the end of a queue.
const NIL: u32 = u32::MAX;

/// Entries to a chunk. A queue is read some chunks at a time, so that they are fetched from memory together and not one
/// after the other, as in a list that is linked through the timers themselves.
pub(crate) const CHUNK: usize = 16;
const CHUNK_U32: u32 = 16;

/// Chunks that are fetched together.
const AHEAD: u32 = 8;

/// What a queue holds of a timer: 12 bytes with a 32-bit value.
#[derive(Clone, Copy)]
pub(crate) struct Entry<T> {
    /// Its place in the slab.
    pub(crate) timer: u32,
    /// The lower half of its deadline.
    pub(crate) low: u32,
    pub(crate) value: T,
}

/// A first-in, first-out queue of entries whose chunks lie in a [`Chunks`].
#[derive(Clone, Copy)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    /// Entries taken out so far and put in so far; the remainder says where in a chunk. Both wrap.
    begin: u32,
    end: u32,
}

impl Queue {
    pub(crate) const EMPTY: Self = Self { head: NIL, tail: NIL, begin: 0, end: 0 };

    /// The number of entries.
    #[inline]
    pub(crate) const fn len(self) -> u32 {
        self.end.wrapping_sub(self.begin)
    }

    const fn is_empty(self) -> bool {
        self.begin == self.end
    }
}

/// The pool of chunks.
pub(crate) struct Chunks<T> {
    chunks: Vec<[Entry<T>; CHUNK]>,
    /// The chunk after each in its queue.
    next: Vec<u32>,
    free: FreePlaces,
    run: Run,
}

impl<T: Copy> Chunks<T> {
    pub(crate) fn with_capacity(entries: u32) -> Self {
        // Slots hold chunks that are not full, too; this suffices for a minute's worth of slots.
        let chunks = (entries as usize / CHUNK).saturating_add(if entries == 0 { 0 } else { 256 });
        Self {
            chunks: Vec::with_capacity(chunks),
            next: Vec::with_capacity(chunks),
            free: FreePlaces::new(),
            run: Run::EMPTY,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, queue: &mut Queue, entry: Entry<T>) {
        let offset = offset(queue.end);
        if offset == 0 {
            self.extend(queue, entry);
        }
        self.chunks[queue.tail as usize][offset] = entry;
        queue.end = queue.end.wrapping_add(1);
    }

    /// Takes the first entry out of a queue that has one. A chunk that is not full stays until [`Chunks::drop_chunk`].
    #[inline]
    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Entry<T> {
        let entry = self.chunks[queue.head as usize][offset(queue.begin)];
        queue.begin = queue.begin.wrapping_add(1);
        if offset(queue.begin) == 0 {
            self.free_head(queue);
        }
        entry
    }

    /// The first chunk, and where in it the entries of the queue are, perhaps none. `None` when there is no chunk.
    #[inline]
    pub(crate) fn first_chunk(&self, queue: Queue) -> Option<(u32, Range<usize>)> {
        if queue.head == NIL {
            return None;
        }
        if queue.len() > CHUNK_U32 && (queue.begin / CHUNK_U32).is_multiple_of(AHEAD) {
            self.fetch(queue);
        }
        let begin = offset(queue.begin);
        Some((queue.head, begin..begin.saturating_add(taken(queue) as usize)))
    }

    #[inline]
    pub(crate) fn entry(&self, chunk: u32, at: usize) -> Entry<T> {
        self.chunks[chunk as usize][at]
    }

    /// Takes the first chunk out.
    #[inline]
    pub(crate) fn drop_chunk(&mut self, queue: &mut Queue) {
        queue.begin = queue.begin.wrapping_add(taken(*queue));
        self.free_head(queue);
    }

    /// Looks at the first chunks of a queue, so that all of them are on their way from memory before any is waited for.
    fn fetch(&self, queue: Queue) {
        let (mut chunk, mut sum) = (queue.head, 0_u32);
        for _ in 0..AHEAD {
            let Some(entries) = self.chunks.get(chunk as usize) else { break };
            for at in [0, 5, 10, 15] {
                sum ^= entries[at].timer; // One of each cache line.
            }
            chunk = self.next[chunk as usize];
        }
        black_box(sum);
    }

    pub(crate) fn iter(&self, mut queue: Queue) -> impl Iterator<Item = Entry<T>> {
        std::iter::from_fn(move || {
            if queue.is_empty() {
                return None;
            }
            let entry = self.chunks[queue.head as usize][offset(queue.begin)];
            queue.begin = queue.begin.wrapping_add(1);
            if offset(queue.begin) == 0 {
                queue.head = self.next[queue.head as usize];
            }
            Some(entry)
        })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let chunks = self.chunks.capacity().saturating_mul(size_of::<[Entry<T>; CHUNK]>());
        let next = self.next.capacity().saturating_mul(size_of::<u32>());
        chunks.saturating_add(next).saturating_add(self.free.memory_bytes())
    }

    /// Adds a chunk to the end of a queue whose last one is full; `entry` is as good as any for one that is new.
    #[inline(never)]
    fn extend(&mut self, queue: &mut Queue, entry: Entry<T>) {
        let chunk = self.chunk(entry);
        if queue.head == NIL {
            queue.head = chunk;
        } else {
            self.next[queue.tail as usize] = chunk;
        }
        queue.tail = chunk;
    }

    #[expect(
        clippy::expect_used,
        reason = "there are fewer chunks than timers, whose places 32 bits can name"
    )]
    fn chunk(&mut self, entry: Entry<T>) -> u32 {
        if let Some(chunk) = self.run.take() {
            self.next[chunk as usize] = NIL;
            return chunk;
        }
        if let Some(run) = self.free.take_run() {
            self.run = run;
            return self.chunk(entry);
        }
        if self.chunks.len() == self.chunks.capacity() {
            let more = (self.chunks.len() / 10).max(64);
            self.chunks.reserve_exact(more);
            self.next.reserve_exact(more);
        }
        let chunk = u32::try_from(self.chunks.len()).expect("far fewer chunks than timers");
        self.chunks.push([entry; CHUNK]);
        self.next.push(NIL);
        self.free.grow(self.chunks.len());
        chunk
    }

    #[inline]
    fn free_head(&mut self, queue: &mut Queue) {
        let chunk = queue.head;
        queue.head = self.next[chunk as usize];
        // Beside those in hand it is used next, while it is in the cache.
        if !self.run.add(chunk) {
            self.free.add(chunk);
        }
    }
}

/// How many entries of a queue lie in its first chunk.
#[inline]
fn taken(queue: Queue) -> u32 {
    queue.len().min(CHUNK_U32.saturating_sub(queue.begin % CHUNK_U32))
}

/// Where in its chunk an entry stands.
#[inline]
fn offset(count: u32) -> usize {
    count as usize % CHUNK
}
