//! Slots that one writer publishes and every thread reads without a lock.
