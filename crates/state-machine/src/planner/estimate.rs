//! How long customers take, learned from what queries saw: a life table with forgetting.
//!
//! Nobody says when a password was entered. A query says *still typing*, and a later one says that it is over, so an
//! end is known to lie between two questions (interval-censored); of a payment that is given up only that it had not
//! ended when it was last asked about (right-censored). Each observation adds to two sums a step of age: how much
//! ended in it, and how much was at risk in it. An interval is spread over its steps in the proportions that the
//! present table gives them, which is one step of the EM algorithm; since old observations fade, the table goes
//! through many of them and ends where Turnbull's estimate (1976) does.
//!
//! All is integer: an observation is [`ONE`], survival is of [`WHOLE`].

use super::ages::{AGE_MAX_MS, AGES, begins, step_of};

/// One observation.
pub(super) const ONE: u64 = 1 << 20;

/// Survival at age 0.
pub(super) const WHOLE: u64 = 1 << 40;

/// Below this nothing is told apart any more.
const SURVIVAL_MIN: u64 = 1 << 12;

/// How many observations' worth of what is known otherwise stands beside what was seen, in every step.
const PRIOR: u64 = 6;

/// What was seen counts half after so long.
pub(super) const HALF_LIFE_MS: u64 = 60_000;

/// Of what was seen, as much as so many observations is kept however long ago it was: quiet hours forget nothing.
pub(super) const KEPT: u64 = 64 * ONE;

/// As many observations as a life table is taken over with, and that fit far into a `u64` whatever happens.
pub(super) const TAKEN_MAX: u64 = 512 * ONE;

/// What queries taught about one payment. Ages are from the pay request on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// It ended: seen by a query at `by_ms`, and not yet by the one at `after_ms`.
    Ended {
        /// The last age at which the customer was seen to be asked still.
        after_ms: u64,
        /// The age at which the end was seen.
        by_ms: u64,
    },
    /// It had not ended at this age, and nobody knows more.
    Open {
        /// The age.
        until_ms: u64,
    },
}

/// Ends and risk, by age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// How much ended in a step.
    pub(super) ended: [u64; AGES],
    /// How much was at risk in a step; who ended in it was at risk for half of it.
    pub(super) at_risk: [u64; AGES],
    /// How much was seen at all.
    pub(super) seen: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self { ended: [0; AGES], at_risk: [0; AGES], seen: 0 }
    }
}

impl Table {
    /// Adds what was seen of one payment; `shape` is what is thought of the times so far.
    pub(super) fn learn(&mut self, lesson: Lesson, shape: &Shape) {
        self.seen = self.seen.saturating_add(ONE);
        match lesson {
            Lesson::Open { until_ms } => self.survived(until_ms),
            Lesson::Ended { after_ms, by_ms } => {
                let after_ms = after_ms.min(AGE_MAX_MS.saturating_sub(1));
                self.survived(after_ms);
                self.ended_within(after_ms, by_ms.clamp(after_ms.saturating_add(1), AGE_MAX_MS), shape);
            }
        }
    }

    /// It was at risk up to this age.
    fn survived(&mut self, age_ms: u64) {
        let last = step_of(age_ms);
        for (step, at_risk) in self.at_risk.iter_mut().enumerate().take(last.saturating_add(1)) {
            let part = if step < last { ONE } else { overlap(step, 0, age_ms) };
            *at_risk = at_risk.saturating_add(part);
        }
    }

    /// Spreads one end over the steps between two ages, and its risk until then.
    fn ended_within(&mut self, after_ms: u64, by_ms: u64, shape: &Shape) {
        let (first, last) = (step_of(after_ms), step_of(by_ms.saturating_sub(1)));
        // Where the table knows of no end at all, any moment is as likely as another. Of 2^40.
        let weigh = |step: usize, part: u64| (shape.ends_in(step) / ONE).max(1).saturating_mul(part);
        let parts = |step: usize| overlap(step, after_ms, by_ms);
        let mut left = (first..=last).map(|step| weigh(step, parts(step))).fold(0, u64::saturating_add);
        let mut tail = ONE; // Of the end, what has not been given to a step yet.
        for step in first..=last {
            let part = parts(step);
            let weight = weigh(step, part);
            let share = if step == last { tail } else { scaled(tail, weight, left).min(tail) };
            left = left.saturating_sub(weight);
            tail = tail.saturating_sub(share);
            let risk = scaled(part, tail.saturating_add(share / 2), ONE);
            if let (Some(ended), Some(at_risk)) = (self.ended.get_mut(step), self.at_risk.get_mut(step)) {
                *ended = ended.saturating_add(share);
                *at_risk = at_risk.saturating_add(risk);
            }
        }
    }

    /// Multiplies all by `part / whole`.
    pub(super) fn scale(&mut self, part: u64, whole: u64) {
        self.seen = scaled(self.seen, part, whole);
        for sum in self.ended.iter_mut().chain(&mut self.at_risk) {
            *sum = scaled(*sum, part, whole);
        }
    }

    /// Forgets what `ms` make of what was seen, but never more than leaves [`KEPT`].
    pub(super) fn fade(&mut self, ms: u64) {
        if self.seen > KEPT {
            let part = half_to_the(ms) / (WHOLE / ONE);
            let least = scaled(KEPT, ONE, self.seen);
            self.scale(part.max(least), ONE);
        }
    }

    /// Adds what another has seen.
    pub(super) fn add(&mut self, other: &Self) {
        self.seen = self.seen.saturating_add(other.seen);
        for (sum, more) in self.ended.iter_mut().zip(&other.ended) {
            *sum = sum.saturating_add(*more);
        }
        for (sum, more) in self.at_risk.iter_mut().zip(&other.at_risk) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// The chance to end in a step for who is at risk throughout, of [`ONE`]; `prior` counts as some observations.
    fn rate(&self, step: usize, prior: u64) -> u64 {
        let sum = |of: &[u64; AGES]| of.get(step).copied().unwrap_or(0);
        let ended = sum(&self.ended).saturating_add(prior.saturating_mul(PRIOR));
        let at_risk = sum(&self.at_risk).saturating_add(ONE.saturating_mul(PRIOR));
        scaled(ended, ONE, at_risk).min(ONE.saturating_mul(16))
    }

    /// The rates of all steps, beside `prior`.
    pub(super) fn rates(&self, prior: &[u64; AGES]) -> [u64; AGES] {
        let mut rates = *prior;
        for (step, rate) in rates.iter_mut().enumerate() {
            *rate = self.rate(step, *rate);
        }
        rates
    }
}

/// What is thought before anything was seen: nobody is done within two seconds, most are in the ten that follow, and
/// who is not takes ever longer. Rates in a step, of [`ONE`].
pub(super) fn first_guess() -> [u64; AGES] {
    let mut rates = [0; AGES];
    for (step, rate) in rates.iter_mut().enumerate() {
        let (from, to) = (begins(step), begins(step.saturating_add(1)));
        let per_minute: u64 = match from {
            0..1_000 => 0,
            1_000..2_000 => 1,
            2_000..4_000 => 4,
            4_000..12_000 => 7,
            12_000..32_000 => 4,
            _ => 2,
        };
        *rate = to.saturating_sub(from).saturating_mul(per_minute).saturating_mul(ONE) / 60_000;
    }
    rates
}

/// A table as it is asked: survival and its integral, at every edge of a step.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Who is still typing as a step begins, of [`WHOLE`].
    survival: [u64; AGES + 1],
    /// The integral of that, from age 0, over milliseconds.
    area: [u64; AGES + 1],
}

impl Shape {
    pub(super) fn of(rates: &[u64; AGES]) -> Self {
        let mut shape = Self { survival: [SURVIVAL_MIN; AGES + 1], area: [0; AGES + 1] };
        let (mut survival, mut area) = (WHOLE, 0_u64);
        for (step, rate) in rates.iter().enumerate() {
            if let (Some(s), Some(a)) = (shape.survival.get_mut(step), shape.area.get_mut(step)) {
                (*s, *a) = (survival, area);
            }
            // Who ended in a step was at risk for half of it: 1 - q with q = r / (1 + r/2).
            let double = ONE.saturating_mul(2);
            let lives = double.saturating_sub(*rate);
            let next = scaled(survival, lives, double.saturating_add(*rate)).max(SURVIVAL_MIN).min(survival);
            let width = begins(step.saturating_add(1)).saturating_sub(begins(step));
            area = area.saturating_add((survival / 2).saturating_add(next / 2).saturating_mul(width));
            survival = next;
        }
        if let (Some(s), Some(a)) = (shape.survival.last_mut(), shape.area.last_mut()) {
            (*s, *a) = (survival, area);
        }
        shape
    }

    /// How much ends in a step, of [`WHOLE`].
    fn ends_in(&self, step: usize) -> u64 {
        let at = |step: usize| self.survival.get(step).copied().unwrap_or(0);
        at(step).saturating_sub(at(step.saturating_add(1)))
    }

    /// Survival at an age, and its integral up to there.
    fn at(&self, age_ms: u64) -> (u64, u64) {
        let age = age_ms.min(AGE_MAX_MS);
        let step = step_of(age);
        let next = step.saturating_add(1);
        let of = |values: &[u64; AGES + 1], step: usize| values.get(step).copied().unwrap_or(0);
        let (survival, after) = (of(&self.survival, step), of(&self.survival, next));
        let within = age.saturating_sub(begins(step));
        let width = begins(next).saturating_sub(begins(step));
        let lost = survival.saturating_sub(after).saturating_mul(within).checked_div(width).unwrap_or(0);
        let here = survival.saturating_sub(lost);
        let mean = (survival / 2).saturating_add(here / 2);
        (here, of(&self.area, step).saturating_add(mean.saturating_mul(within)))
    }

    /// Who is still typing at an age, of [`WHOLE`].
    pub(super) fn survival(&self, age_ms: u64) -> u64 {
        self.at(age_ms).0
    }

    /// For how long a payment that was still open at age `asked_ms` has been over by age `age_ms`, unseen: the
    /// expectation, in 1/1024 ms. That is what one query more would have saved.
    pub(super) fn unseen(&self, asked_ms: u64, age_ms: u64) -> u64 {
        let (asked_ms, age_ms) = (asked_ms.min(AGE_MAX_MS), age_ms.min(AGE_MAX_MS));
        let ((survival, from), (_, to)) = (self.at(asked_ms), self.at(age_ms));
        let all = survival.saturating_mul(age_ms.saturating_sub(asked_ms));
        let open = to.saturating_sub(from);
        all.saturating_sub(open).checked_div(survival.wrapping_shr(10)).unwrap_or(0)
    }
}

/// How much of a step lies between two ages, of [`ONE`].
fn overlap(step: usize, after_ms: u64, by_ms: u64) -> u64 {
    let (from, to) = (begins(step), begins(step.saturating_add(1)));
    let common = to.min(by_ms).saturating_sub(from.max(after_ms));
    scaled(common, ONE, to.saturating_sub(from))
}

/// `value · part / whole`, without overflow; 0 of nothing.
pub(super) fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    // By far the most common case, and a division of 64 bits is many times faster.
    if let Some(product) = value.checked_mul(part) {
        return product.checked_div(whole).unwrap_or(0);
    }
    let product = u128::from(value).saturating_mul(u128::from(part));
    u64::try_from(product.checked_div(u128::from(whole)).unwrap_or(0)).unwrap_or(u64::MAX)
}

/// `2^(-ms / half-life)`, of [`WHOLE`].
fn half_to_the(ms: u64) -> u64 {
    let halves = ms / HALF_LIFE_MS;
    let rest = ms % HALF_LIFE_MS;
    // 2^-x within 0 to 1 by its secant is wrong by 6 %: in quarters of a half-life it is by less than 0.4 %.
    const QUARTERS: [u64; 5] = [1_048_576, 881_744, 741_455, 623_487, 524_288];
    let quarter = HALF_LIFE_MS / 4;
    let place = usize::try_from(rest / quarter).unwrap_or(0);
    let of = |place: usize| QUARTERS.get(place).copied().unwrap_or(524_288);
    let (from, to) = (of(place), of(place.saturating_add(1)));
    let within = from.saturating_sub(from.saturating_sub(to).saturating_mul(rest % quarter) / quarter);
    let whole = within.saturating_mul(WHOLE / ONE);
    whole.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
