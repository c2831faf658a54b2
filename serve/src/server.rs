//! Gateways that run.
