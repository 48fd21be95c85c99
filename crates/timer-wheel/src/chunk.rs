//! Queues of handles, in chunks of one pool.
#![expect(
    clippy::indexing_slicing,
    reason = "a chunk that is not there is a bug in here: passed over, its timers would be deadlines lost"
)]

use std::num::NonZeroU32;
use std::ops::Range;

use crate::free::FreePlaces;
use crate::handle::Handle;

/// No chunk: the end of a queue.
const NIL: u32 = u32::MAX;

/// Handles to a chunk. A queue is read a chunk at a time, so that the timers they name are fetched from memory
/// together and not one after the other, as in a list that is linked through the timers themselves.
pub(crate) const CHUNK: usize = 16;
const CHUNK_U32: u32 = 16;

const NOTHING: Handle = Handle { index: u32::MAX, generation: NonZeroU32::MAX };

/// A first-in, first-out queue of handles whose chunks lie in a [`Chunks`].
#[derive(Clone, Copy)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    /// Handles taken out so far and put in so far; their place in a chunk is the remainder. Both wrap.
    begin: u32,
    end: u32,
}

impl Queue {
    pub(crate) const EMPTY: Self = Self { head: NIL, tail: NIL, begin: 0, end: 0 };

    /// The number of handles.
    pub(crate) fn len(self) -> u32 {
        self.end.wrapping_sub(self.begin)
    }

    fn is_empty(self) -> bool {
        self.begin == self.end
    }
}

/// The pool of chunks.
pub(crate) struct Chunks {
    handles: Vec<[Handle; CHUNK]>,
    /// The chunk after each in its queue.
    next: Vec<u32>,
    free: FreePlaces,
}

impl Chunks {
    pub(crate) fn with_capacity(handles: u32) -> Self {
        // Slots hold chunks that are not full, too; this suffices for a minute's worth of slots.
        let chunks = (handles as usize / CHUNK).saturating_add(if handles == 0 { 0 } else { 256 });
        Self {
            handles: Vec::with_capacity(chunks),
            next: Vec::with_capacity(chunks),
            free: FreePlaces::new(),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, queue: &mut Queue, handle: Handle) {
        let offset = offset(queue.end);
        if offset == 0 {
            let chunk = self.chunk();
            if queue.is_empty() {
                queue.head = chunk;
            } else {
                self.next[queue.tail as usize] = chunk;
            }
            queue.tail = chunk;
        }
        self.handles[queue.tail as usize][offset] = handle;
        queue.end = queue.end.wrapping_add(1);
    }

    /// Takes the first handle out of a queue that has one. The last chunk stays until [`Chunks::clear`].
    #[inline]
    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Handle {
        let handle = self.handles[queue.head as usize][offset(queue.begin)];
        queue.begin = queue.begin.wrapping_add(1);
        if offset(queue.begin) == 0 && !queue.is_empty() {
            self.free_head(queue);
        }
        handle
    }

    /// Takes the first chunk: its handles are those in the given range. `None` when there are no more, and no chunk
    /// either.
    #[inline]
    pub(crate) fn pop_chunk(&mut self, queue: &mut Queue) -> Option<([Handle; CHUNK], Range<usize>)> {
        if queue.is_empty() {
            return None;
        }
        let handles = self.handles[queue.head as usize];
        let begin = offset(queue.begin);
        let taken = queue.len().min(CHUNK_U32.saturating_sub(queue.begin % CHUNK_U32));
        queue.begin = queue.begin.wrapping_add(taken);
        self.free_head(queue);
        Some((handles, begin..begin.saturating_add(taken as usize)))
    }

    /// Frees all chunks of a queue, whether or not it still has handles.
    #[inline]
    pub(crate) fn clear(&mut self, queue: &mut Queue) {
        while queue.head != queue.tail {
            self.free_head(queue);
        }
        self.free.add(queue.tail);
        *queue = Queue::EMPTY;
    }

    pub(crate) fn iter(&self, mut queue: Queue) -> impl Iterator<Item = Handle> {
        std::iter::from_fn(move || {
            let handle = self.handles.get(queue.head as usize)?[offset(queue.begin)];
            if queue.is_empty() {
                return None;
            }
            queue.begin = queue.begin.wrapping_add(1);
            if offset(queue.begin) == 0 {
                queue.head = self.next[queue.head as usize];
            }
            Some(handle)
        })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let handles = self.handles.capacity().saturating_mul(size_of::<[Handle; CHUNK]>());
        let next = self.next.capacity().saturating_mul(size_of::<u32>());
        handles.saturating_add(next).saturating_add(self.free.memory_bytes())
    }

    /// A chunk for the end of a queue.
    #[inline]
    #[expect(
        clippy::expect_used,
        reason = "there are fewer chunks than timers, whose places 32 bits can name"
    )]
    fn chunk(&mut self) -> u32 {
        if let Some(chunk) = self.free.take() {
            self.next[chunk as usize] = NIL;
            return chunk;
        }
        if self.handles.len() == self.handles.capacity() {
            let more = (self.handles.len() / 4).max(64);
            self.handles.reserve_exact(more);
            self.next.reserve_exact(more);
        }
        let chunk = u32::try_from(self.handles.len()).expect("far fewer chunks than timers");
        self.handles.push([NOTHING; CHUNK]);
        self.next.push(NIL);
        self.free.grow(self.handles.len());
        chunk
    }

    #[inline]
    fn free_head(&mut self, queue: &mut Queue) {
        let chunk = queue.head;
        queue.head = self.next[chunk as usize];
        self.free.add(chunk);
    }
}

/// A handle's place in its chunk.
#[inline]
fn offset(count: u32) -> usize {
    count as usize % CHUNK
}
