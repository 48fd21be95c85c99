//! The wheel against a model that keeps its timers in a sorted map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{Full, Handle, Tick, Wheel};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// What the wheel promises, in the plainest way: timers sorted by deadline, then by the order of insertion.
#[derive(Default)]
struct Model {
    present: u64,
    inserted: u32,
    timers: BTreeMap<(u64, u32), Handle>,
}

/// The last instant there is.
const LAST: u64 = Tick::MAX.as_ms();

/// The wheel and its model, given the same calls and compared after each.
struct Pair {
    wheel: Wheel<u32>,
    model: Model,
    /// Every handle ever given out, with its timer's deadline and value.
    handles: Vec<(Handle, u64, u32)>,
}

impl Pair {
    fn new(present: u64) -> Self {
        let model = Model { present, ..Model::default() };
        Self { wheel: Wheel::new(Tick::from_ms(present)), model, handles: Vec::new() }
    }

    fn insert(&mut self, at: u64) {
        let (value, deadline) = (self.model.inserted, at.max(self.model.present));
        let handle = self.wheel.insert(Tick::from_ms(at), value);
        assert!(self.handles.iter().all(|&(other, ..)| other != handle), "a handle was given out twice");
        self.handles.push((handle, deadline, value));
        self.model.timers.insert((deadline, value), handle);
        self.model.inserted += 1;
        self.compare();
    }

    /// Cancels one of all the timers there ever were.
    fn cancel(&mut self, choice: usize) {
        let Some(&(handle, deadline, value)) = self.handles.get(choice % self.handles.len().max(1)) else {
            return;
        };
        let expected = self.model.timers.remove(&(deadline, value)).map(|_| value);
        assert_eq!(self.wheel.cancel(handle), expected);
        assert_eq!(self.wheel.cancel(handle), None, "cancelled twice");
        self.compare();
    }

    /// Takes out at most `timers_max` of what is due at `now`.
    fn pop(&mut self, now: u64, timers_max: usize) {
        for _ in 0..timers_max {
            let expected = self.model.pop_due(now);
            let popped = self.wheel.pop_due(Tick::from_ms(now));
            assert_eq!(popped.map(|(deadline, value)| (deadline.as_ms(), value)), expected);
            self.compare();
            if expected.is_none() {
                return;
            }
        }
    }

    fn compare(&self) {
        assert_eq!(self.wheel.len(), self.model.timers.len());
        assert_eq!(self.wheel.is_empty(), self.model.timers.is_empty());
        assert_eq!(self.wheel.now().as_ms(), self.model.present);
        let next = self.wheel.next_deadline().map(Tick::as_ms);
        let earliest = self.model.timers.keys().next().map(|&(deadline, _)| deadline);
        // No case here has as many timers as a slot may have and still be looked through.
        assert_eq!(next, earliest);
        for &(handle, deadline, value) in &self.handles {
            let expected = self.model.timers.contains_key(&(deadline, value)).then_some(deadline);
            assert_eq!(self.wheel.deadline(handle).map(Tick::as_ms), expected);
        }
    }
}

impl Model {
    fn pop_due(&mut self, now: u64) -> Option<(u64, u32)> {
        let now = now.max(self.present);
        match self.timers.first_key_value() {
            Some((&(deadline, value), _)) if deadline <= now => {
                self.timers.remove(&(deadline, value));
                self.present = deadline;
                Some((deadline, value))
            }
            _ => {
                self.present = now;
                None
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Insert, this many milliseconds from the present.
    Ahead(u64),
    /// Insert at this very tick.
    At(u64),
    Cancel(usize),
    /// Let so much time pass and take out so many timers at most.
    Pass(u64, usize),
    /// Pop at this very tick, perhaps one before the present.
    PopAt(u64),
}

fn span() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..4_u64,
        4 => 0..300_u64,
        4 => 0..70_000_u64,
        2 => 0..20 * DAY_MS,
        1 => (0..200_u64).prop_map(|days| days * DAY_MS),
        1 => (0..64_u32).prop_map(|bit| 1 << bit),
        1 => (0..64_u32).prop_map(|bit| (1 << bit) - 1),
    ]
}

fn tick() -> impl Strategy<Value = u64> {
    prop_oneof![span(), span().prop_map(|ms| LAST.saturating_sub(ms)), 0..=LAST]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => span().prop_map(Step::Ahead),
        1 => tick().prop_map(Step::At),
        6 => any::<usize>().prop_map(Step::Cancel),
        6 => (span(), prop_oneof![Just(usize::MAX), 0..4_usize]).prop_map(|(ms, most)| Step::Pass(ms, most)),
        1 => span().prop_map(Step::PopAt),
    ]
}

fn start() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 3 => 0..400 * DAY_MS, 1 => tick()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_wheel_agrees_with_a_sorted_map(start in start(), steps in prop::collection::vec(step(), 1..60)) {
        let mut pair = Pair::new(start);
        for step in steps {
            match step {
                Step::Ahead(ms) => pair.insert(pair.model.present.saturating_add(ms).min(LAST)),
                Step::At(tick) => pair.insert(tick),
                Step::Cancel(choice) => pair.cancel(choice),
                Step::Pass(ms, most) => pair.pop(pair.model.present.saturating_add(ms).min(LAST), most),
                Step::PopAt(tick) => pair.pop(tick, usize::MAX),
            }
        }
        pair.pop(LAST, usize::MAX);
        prop_assert!(pair.wheel.is_empty());
    }

    /// Many timers with few distinct deadlines, so that slots are long and cancelling meets both of their ends.
    #[test]
    fn crowded_slots_keep_their_order(
        deadlines in prop::collection::vec(0..600_u64, 1..60),
        cancelled in prop::collection::vec(any::<usize>(), 0..40),
        passes in prop::collection::vec(0..50_u64, 0..20),
    ) {
        let mut pair = Pair::new(250);
        for deadline in deadlines {
            pair.insert(deadline / 60 * 60);
        }
        let mut passes = passes.into_iter();
        for choice in cancelled {
            pair.cancel(choice);
            if let Some(ms) = passes.next() {
                pair.pop(pair.model.present + ms, usize::MAX);
            }
        }
        pair.pop(1_000, usize::MAX);
        prop_assert!(pair.wheel.is_empty());
    }
}

/// Puts timers in at `deadlines` (from a present of 0) and checks when and in which order the wheel gives them out,
/// if it is woken at just the instants that it asks for.
#[track_caller]
fn check(deadlines: &[u64], expected: &[u64]) {
    let mut wheel = Wheel::new(Tick::ZERO);
    for (value, &deadline) in deadlines.iter().enumerate() {
        wheel.insert(Tick::from_ms(deadline), value);
    }
    let mut fired = Vec::new();
    let mut before = None;
    while let Some(now) = wheel.next_deadline() {
        assert!(before < Some(now), "no progress at {now:?}");
        wheel.advance(now, |deadline, value| {
            assert_eq!(deadline, now, "neither early nor late");
            assert_eq!(deadline.as_ms(), deadlines[value]);
            fired.push(deadline.as_ms());
        });
        before = Some(now);
    }
    assert_eq!(fired, expected);
}

#[test]
fn timers_fire_at_their_deadline_in_order() {
    check(&[], &[]);
    check(&[0], &[0]);
    check(&[5, 3, 4, 3], &[3, 3, 4, 5]);
    check(&[256, 255, 257, 65_536, 65_535], &[255, 256, 257, 65_535, 65_536]);
    check(&[7 * DAY_MS, 5_000, 45_000], &[5_000, 45_000, 7 * DAY_MS]);
    check(&[LAST, 1 << 32, (1 << 32) - 1, 400 * DAY_MS], &[(1 << 32) - 1, 1 << 32, 400 * DAY_MS, LAST]);
}

#[test]
fn timers_of_one_deadline_fire_in_the_order_of_insertion() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let at = Tick::from_ms(70_000);
    wheel.insert(at, 1);
    assert_eq!(wheel.pop_due(Tick::from_ms(65_600)), None);
    wheel.insert(at, 2);
    assert_eq!(wheel.pop_due(Tick::from_ms(69_990)), None);
    wheel.insert(at, 3);
    let mut fired = Vec::new();
    wheel.advance(at, |_, value| fired.push(value));
    assert_eq!(fired, [1, 2, 3]);
}

#[test]
fn what_is_put_in_late_is_due_at_once_and_after_what_is_due_already() {
    let mut wheel = Wheel::new(Tick::from_ms(1_000));
    wheel.insert(Tick::from_ms(1_000), "now");
    wheel.insert(Tick::from_ms(3), "late");
    wheel.insert(Tick::from_ms(1_001), "next");
    assert_eq!(wheel.next_deadline(), Some(Tick::from_ms(1_000)));
    assert_eq!(wheel.pop_due(Tick::from_ms(1_000)), Some((Tick::from_ms(1_000), "now")));
    assert_eq!(wheel.pop_due(Tick::from_ms(1_000)), Some((Tick::from_ms(1_000), "late")));
    assert_eq!(wheel.pop_due(Tick::from_ms(1_000)), None);
    assert_eq!(wheel.len(), 1);
}

#[test]
fn a_timer_can_be_put_in_again_while_others_fire() {
    let mut wheel = Wheel::new(Tick::ZERO);
    wheel.insert(Tick::from_ms(10), 10);
    wheel.insert(Tick::from_ms(1_000), 1_000);
    let mut fired = Vec::new();
    while let Some((deadline, value)) = wheel.pop_due(Tick::from_ms(2_000)) {
        fired.push((deadline.as_ms(), value));
        if value == 10 {
            wheel.insert(deadline.saturating_add(500), 500);
            wheel.insert(deadline.saturating_add(5_000), 5_000);
        }
    }
    assert_eq!(fired, [(10, 10), (510, 500), (1_000, 1_000)]);
    assert_eq!(wheel.next_deadline(), Some(Tick::from_ms(5_010)));
}

#[test]
fn time_does_not_go_back() {
    let mut wheel = Wheel::new(Tick::from_ms(500));
    wheel.insert(Tick::from_ms(600), ());
    assert_eq!(wheel.pop_due(Tick::from_ms(550)), None);
    assert_eq!(wheel.pop_due(Tick::ZERO), None);
    assert_eq!(wheel.now(), Tick::from_ms(550));
    wheel.insert(Tick::from_ms(510), ());
    assert_eq!(wheel.pop_due(Tick::ZERO), Some((Tick::from_ms(550), ())));
    assert_eq!(wheel.pop_due(Tick::from_ms(599)), None);
    assert_eq!(wheel.pop_due(Tick::from_ms(600)), Some((Tick::from_ms(600), ())));
}

#[test]
fn a_stale_handle_names_nothing() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let fired = wheel.insert(Tick::from_ms(1), 'a');
    assert!(wheel.pop_due(Tick::from_ms(1)).is_some());
    assert_eq!(wheel.cancel(fired), None);
    let again = wheel.insert(Tick::from_ms(2), 'b');
    assert_eq!(again.index, fired.index, "the freed place is used again");
    assert_eq!(wheel.cancel(fired), None);
    assert_eq!(wheel.cancel(again), Some('b'));
    assert_eq!(wheel.cancel(again), None);
    assert!(wheel.is_empty());
    let mut other = Wheel::<char>::new(Tick::ZERO);
    assert_eq!(other.cancel(again), None, "a handle of a wheel with more places");
}

#[test]
fn a_crowded_distant_slot_is_answered_with_its_start() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let deadline = 3 * 65_536 + 40_000;
    for value in 0..200 {
        wheel.insert(Tick::from_ms(deadline), value);
    }
    let mut wakes = Vec::new();
    let mut fired = 0;
    while let Some(now) = wheel.next_deadline() {
        wakes.push(now.as_ms());
        wheel.advance(now, |_, _| fired += 1);
    }
    assert_eq!(wakes, [3 * 65_536, deadline / 256 * 256, deadline]);
    assert_eq!(fired, 200);
}

#[test]
fn the_wheel_takes_timers_max_timers_and_no_more() {
    let mut wheel = Wheel::new(Tick::ZERO).with_timers_max(2);
    let first = wheel.try_insert(Tick::from_ms(1), 1).unwrap();
    wheel.try_insert(Tick::from_ms(2), 2).unwrap();
    assert_eq!(wheel.try_insert(Tick::from_ms(3), 3), Err(Full));
    assert_eq!(wheel.len(), 2);
    wheel.cancel(first);
    wheel.try_insert(Tick::from_ms(3), 3).unwrap();
    assert_eq!(wheel.try_insert(Tick::from_ms(4), 4), Err(Full));
    assert_eq!(wheel.pop_due(Tick::from_ms(2)), Some((Tick::from_ms(2), 2)));
    wheel.try_insert(Tick::from_ms(4), 4).unwrap();
}

#[test]
#[should_panic(expected = "timers_max")]
fn an_owner_that_exceeds_its_limit_is_a_bug() {
    Wheel::new(Tick::ZERO).with_timers_max(0).insert(Tick::ZERO, ());
}

#[test]
fn a_million_timers_take_at_most_32_bytes_each() {
    const TIMERS: u32 = 1_000_000;
    let mut wheel = Wheel::new(Tick::ZERO);
    for value in 0..TIMERS {
        wheel.insert(Tick::from_ms(u64::from(value) * 604), value);
        // Besides the slots themselves, each occupied one has a chunk that is not full.
        let fixed = 128 * 1024;
        let bytes = wheel.memory_bytes();
        assert!(bytes <= 32 * wheel.len() + fixed, "{bytes} bytes for {} timers", wheel.len());
    }
    assert!(wheel.memory_bytes() <= 32 * wheel.len(), "{} bytes", wheel.memory_bytes());
    assert_eq!(size_of::<Option<Handle>>(), 8);
}

#[test]
fn cancelled_timers_do_not_pile_up() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let at = Tick::from_ms(7 * DAY_MS);
    wheel.insert(at, 0);
    for value in 1..100_000 {
        let handle = wheel.insert(at, value);
        assert_eq!(wheel.cancel(handle), Some(value));
    }
    let bytes = wheel.memory_bytes();
    assert!(bytes < 64 * 1024, "{bytes} bytes for one timer");
    assert_eq!(wheel.pop_due(at), Some((at, 0)));
    assert_eq!(wheel.pop_due(at), None);
}

#[test]
fn a_wheel_that_runs_on_uses_its_memory_again() {
    let mut wheel = Wheel::new(Tick::ZERO);
    let mut bytes = 0;
    for round in 0..200 {
        let start = wheel.now();
        let handles: Vec<_> =
            (0..1_000).map(|value| wheel.insert(start.saturating_add(value * 37), value)).collect();
        for handle in handles.into_iter().skip(round % 2).step_by(2) {
            assert!(wheel.cancel(handle).is_some());
        }
        let mut fired = 0;
        wheel.advance(start.saturating_add(40_000), |_, _| fired += 1);
        assert_eq!(fired, 500);
        // The first rounds lie differently over the slots.
        if round == 20 {
            bytes = wheel.memory_bytes();
        }
    }
    assert_eq!(wheel.memory_bytes(), bytes);
}

#[test]
fn deadlines_years_ahead_are_kept_whole() {
    const YEAR_MS: u64 = 365 * DAY_MS;
    let mut wheel = Wheel::new(Tick::from_ms(u64::from(u32::MAX) - 5));
    let handles: Vec<_> = (1..=10).map(|year| wheel.insert(Tick::from_ms(year * YEAR_MS), year)).collect();
    for year in [2, 5, 9_usize] {
        assert_eq!(wheel.deadline(handles[year - 1]), Some(Tick::from_ms(year as u64 * YEAR_MS)));
        assert_eq!(wheel.cancel(handles[year - 1]), Some(year as u64));
    }
    assert_eq!(wheel.next_deadline(), Some(Tick::from_ms(YEAR_MS)));
    let mut fired = Vec::new();
    while let Some(now) = wheel.next_deadline() {
        wheel.advance(now, |deadline, year| fired.push((deadline.as_ms(), year)));
    }
    assert_eq!(fired, [1, 3, 4, 6, 7, 8, 10].map(|year| (year * YEAR_MS, year)));
}

#[test]
fn an_empty_wheel_goes_back_in_time() {
    let mut wheel = Wheel::new(Tick::from_ms(1_000_000));
    for ms in [1_000_001, 1_000_300, 9_000_000] {
        let handle = wheel.insert(Tick::from_ms(ms), ms);
        assert_eq!(wheel.deadline(handle), Some(Tick::from_ms(ms)));
        assert_eq!(wheel.cancel(handle), Some(ms));
        assert_eq!(wheel.deadline(handle), None);
    }
    wheel.restart(Tick::from_ms(5));
    for ms in [700, 6, 100_000] {
        wheel.insert(Tick::from_ms(ms), ms);
    }
    assert_eq!(wheel.next_deadline(), Some(Tick::from_ms(6)));
    let fired: Vec<_> = std::iter::from_fn(|| wheel.pop_due(Tick::from_ms(100_000))).collect();
    assert_eq!(fired, [6, 700, 100_000].map(|ms| (Tick::from_ms(ms), ms)));
}
