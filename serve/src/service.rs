//! Deploy and invoke.
