//! A queue whose worker takes all that waits at once, and that ends without leaving anything unanswered.

use crate::door::Door;

/// What the worker does with what it takes.
pub trait Work<T> {
    /// Whether more may be added to what is taken already.
    fn has_room(&self, taken: &[T]) -> bool;

    /// Works on all of `taken`, answers each and leaves it empty; `false` if nothing may be worked on after it.
    fn work(&mut self, taken: &mut Vec<T>) -> bool;

    /// Answers what came too late, after [`Work::work`] said that nothing may be worked on any more.
    fn refuse(&mut self, late: T);
}

/// Hands something in by `send`, which says whether it did. `false` if the worker has ended: then it was not handed in,
/// and will not be answered. With `true` it will be.
pub fn hand_in(door: &Door, send: impl FnOnce() -> bool) -> bool {
    match door.enter() {
        Some(_inside) => send(),
        None => false,
    }
}

/// Works until `receive` has nothing more to come, or until the work says that it must end: then the door is shut
/// first, and whoever had entered is answered.
pub fn serve<T>(
    door: &Door,
    mut receive: impl FnMut() -> Option<T>,
    mut receive_now: impl FnMut() -> Option<T>,
    work: &mut impl Work<T>,
) {
    let mut taken = Vec::new();
    while let Some(first) = receive() {
        taken.push(first);
        while work.has_room(&taken) {
            let Some(next) = receive_now() else { break };
            taken.push(next);
        }
        if !work.work(&mut taken) {
            door.shut(|| {
                while let Some(late) = receive_now() {
                    work.refuse(late);
                }
            });
            return;
        }
    }
}
