//! What reading costs the allocator: nothing, once the buffers are warm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use protocol::xml::Reader;

thread_local! {
    /// Allocations of this thread.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[expect(unsafe_code, reason = "only an allocator can tell how often it is asked")]
// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory that it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, and it is passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations that `work` makes on this thread.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

#[test]
fn a_warm_reader_allocates_nothing() {
    // Plain text and CDATA are borrowed; the two values that hold something escaped go through warm scratch.
    let body = "<xml><return_code><![CDATA[SUCCESS]]></return_code><attach>a&amp;b &#x864E;</attach>\
                <detail>x<![CDATA[y]]>z</detail><total_fee>1288</total_fee><empty/></xml>";
    let mut reader = Reader::new();
    let mut read = || {
        let message = reader.read(body.as_bytes()).expect("well-formed");
        assert_eq!(message.get("attach"), Some("a&b 虎"));
        assert_eq!(message.get("total_fee"), Some("1288"));
        assert_eq!(message.iter().count(), 5);
    };
    assert!(allocations(&mut read) > 0, "the counter counts: the first reading warms the buffers");
    for _ in 0..100 {
        assert_eq!(allocations(&mut read), 0);
    }
}
