//! The wallet's side as a seeded model, and the virtual-time world that judges the switch.
