//! Tests of the request readers.
