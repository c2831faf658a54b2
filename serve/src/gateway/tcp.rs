//! The TCP gateway.
