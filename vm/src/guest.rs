//! A host function's view of the guest that calls it.

pub(crate) mod call;
mod call_back;
mod failure;
mod handles;
pub(crate) mod kinds;
mod lookup;
pub(crate) mod mail;
mod meter;
mod resources;
pub(crate) mod socket;
mod state;

pub use call::Call;
pub use failure::Failure;
pub(crate) use failure::HostError;
pub(crate) use handles::{AddedModule, CountedSocket};
pub(crate) use meter::{MemoryShare, Rejected, portion};
pub(crate) use resources::{BUFFER, ListingStream, Opening};
pub use state::Guest;
pub(crate) use state::{MailCursor, Origin, Setting};
