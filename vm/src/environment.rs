//! The parts of an environment: what its processes may use and call, in what amounts, and what is
//! recorded about them.
//!
//! Nothing in this module depends on processes. [`crate::machine`] combines the parts.

mod config;
mod descriptors;
mod grants;
mod host_memory;
mod journal;
mod limits;
mod names;
mod quota;
mod registry;
pub(crate) mod wasi;

pub use config::Config;
pub(crate) use config::Permissions;
pub(crate) use descriptors::Descriptors;
pub use descriptors::raise_descriptor_limit;
pub(crate) use grants::{Catalogue, Grants};
pub use host_memory::{Charge, HostMemory, ResourceSize};
pub use journal::{Event, Journal, JournalEntry};
pub use limits::Limits;
pub(crate) use names::{Names, Registration, RegistrationId};
pub(crate) use quota::{Permit, Quota, QuotaAnchor, Share};
pub(crate) use registry::Name;
pub use registry::RegistryError;
pub use wasi::{Access, PreopenError, Stdio};
pub(crate) use wasi::{Wasi, WasiTemplate};
