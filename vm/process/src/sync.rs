//! The synchronization primitives of a machine. `vm/model` replaces them with those of a model
//! checker.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
