//! Who pays, and when they are done: seeded populations.

/// Of a hundred customers, as many never answer.
const NEVER_PERCENT: u64 = 10;

/// Password-entry times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Population {
    /// Median 8 s, 95 % within 25 s: the simulator's, DESIGN §5.
    LogNormal,
    /// Three in five around 6 s, the others around 25 s.
    Bimodal,
    /// From 4 s on, with a tail like 1/t: two in five are not done after 12 s.
    HeavyTailed,
}

impl Population {
    pub(crate) const ALL: [Self; 3] = [Self::LogNormal, Self::Bimodal, Self::HeavyTailed];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::LogNormal => "log-normal",
            Self::Bimodal => "bimodal",
            Self::HeavyTailed => "heavy-tailed",
        }
    }

    /// Milliseconds from the pay request until the customer is done; `None` if never.
    pub(crate) fn draw(self, draw: &mut Draw) -> Option<u64> {
        if draw.below(100) < NEVER_PERCENT {
            return None;
        }
        let seconds = match self {
            Self::LogNormal => 8.0 * (0.6926 * draw.normal()).exp(),
            Self::Bimodal if draw.below(5) < 3 => 6.0 * (0.25 * draw.normal()).exp(),
            Self::Bimodal => 25.0 * (0.2 * draw.normal()).exp(),
            Self::HeavyTailed => 4.0 + 4.0 * (draw.unit().powf(-1.0 / 1.1) - 1.0),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and cut off at a day"
        )]
        Some((seconds * 1_000.0).min(86_400_000.0) as u64)
    }
}

/// Numbers that only look drawn: one seed, one run.
#[derive(Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// Above 0, at most 1.
    pub(crate) fn unit(&mut self) -> f64 {
        let part = ((self.word() >> 11) + 1) as f64;
        part / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A payment as all policies meet it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Customer {
    /// When its pay request leaves.
    pub(crate) left_ms: u64,
    /// When it is over, by the same clock.
    pub(crate) ends_ms: u64,
    pub(crate) merchant: u32,
    pub(crate) fen: u64,
}

/// Payments for `seconds`, `rate` a second (Poisson). From `then` on they are of the second population.
pub(crate) fn customers(
    seed: u64,
    rate: f64,
    seconds: u64,
    first: Population,
    then: Option<(u64, Population)>,
) -> Vec<Customer> {
    // Apart, so that other customers come at the same moments.
    let (mut arrivals, mut draw) = (Draw::new(seed), Draw::new(seed + 1_000));
    let (mut at, mut all) = (0.0, Vec::new());
    loop {
        at -= arrivals.unit().ln() / rate * 1_000.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hours in ms")]
        let left_ms = at as u64;
        if left_ms >= seconds * 1_000 {
            return all;
        }
        let population =
            then.filter(|(from, _)| left_ms >= from * 1_000).map_or(first, |(_, population)| population);
        let ends_ms = population.draw(&mut draw).map_or(u64::MAX, |ms| left_ms + ms);
        let fen = [1_288, 5_900, 23_000, 88_000, 250_000][usize::try_from(draw.below(5)).expect("below 5")];
        let merchant = 1 + u32::try_from(draw.below(500)).expect("below 500");
        all.push(Customer { left_ms, ends_ms, merchant, fen });
    }
}
