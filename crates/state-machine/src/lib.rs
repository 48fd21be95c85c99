//! Life of a payment and of a reversal: automata, records, policy, query planner, the shard.
