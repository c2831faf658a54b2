//! What the threads of a machine meet through. `vm/model` puts a model checker's in its place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
