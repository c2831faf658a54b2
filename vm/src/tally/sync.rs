//! The synchronization primitives. `vm/model` replaces them with a model checker's.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};
