//! Tests of reader and writer; quick-xml is the oracle.
