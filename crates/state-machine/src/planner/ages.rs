//! How long a customer has been typing, in steps that grow with it: four to an octave, so that a step is at most a
//! quarter of the age at which it begins, from 64 ms to 17 minutes.

/// Steps.
pub(super) const AGES: usize = 57;

/// Ages from here on count as this.
pub(super) const AGE_MAX_MS: u64 = 1 << 20;

/// Where step `step` begins; step [`AGES`] is the end of the last one.
pub(super) fn begins(step: usize) -> u64 {
    match step.checked_sub(1) {
        None => 0,
        Some(above) => {
            let (octave, quarter) = (u32::try_from(above / 4).unwrap_or(0), above % 4);
            16_u64.wrapping_shl(octave).saturating_mul(4_u64.saturating_add(quarter as u64))
        }
    }
}

/// The step that an age falls in.
pub(super) fn step_of(age_ms: u64) -> usize {
    let age = age_ms.min(AGE_MAX_MS.saturating_sub(1));
    let Some(octave) = age.checked_ilog2().and_then(|log| log.checked_sub(6)) else { return 0 };
    let quarter = age.wrapping_shr(octave.saturating_add(4)) & 3;
    let step = u64::from(octave).saturating_mul(4).saturating_add(quarter).saturating_add(1);
    usize::try_from(step).unwrap_or(AGES).min(AGES.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::{AGE_MAX_MS, AGES, begins, step_of};

    #[test]
    fn every_age_is_in_its_step() {
        assert_eq!((begins(0), begins(1), begins(2), begins(AGES)), (0, 64, 80, AGE_MAX_MS));
        for step in 0..AGES {
            let (from, to) = (begins(step), begins(step + 1));
            assert!(from < to && (step == 0 || (to - from) * 4 <= from), "{step}: {from} to {to}");
            assert_eq!([from, (from + to) / 2, to - 1].map(step_of), [step; 3]);
        }
        assert_eq!([AGE_MAX_MS, u64::MAX].map(step_of), [AGES - 1; 2]);
    }
}
