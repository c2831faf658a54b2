//! Counts what a component's resources take up: host memory, files and sockets.
//!
//! `wasmtime-wasi` keeps a component's resources in a table, which limits only the number of
//! entries. Before each call that the component makes, the resources created by its earlier calls
//! are counted. Each is counted at its maximum size, because the contents of most resources are not
//! visible. A single call adds at most a few resources.

use crate::environment::wasi::listing::Listing;
use crate::environment::{Charge, HostMemory, Permit, Quota, ResourceSize};
use lunatic_abi::Limit;
use lunatic_process::LimitReached;
use std::sync::{Arc, Weak};
use wasmtime::component::Resource;
use wasmtime_wasi::ResourceTable;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::sockets::udp::{IncomingDatagramStream, OutgoingDatagramStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, TcpSocket, UdpSocket};

/// The total size of a table entry, its handle and a small resource, in bytes.
const ENTRY: u64 = 512;

/// The maximum number of bytes that a stream buffers.
pub(crate) const BUFFER: u64 = 64 << 10;

/// What a component is about to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Nothing,
    /// A file, a directory or a directory listing.
    File,
    Socket,
}

/// What a component is charged for its resources.
pub(super) struct Resources {
    descriptors: Permit,
    sockets: Permit,
    bytes: Charge,
    /// The files and directories that the component has opened. A stream keeps its file open, even
    /// if the component has dropped the descriptor.
    opened: Vec<Weak<std::fs::File>>,
    /// The maximum number of files.
    allowed: u64,
}

impl Resources {
    pub(super) fn new(quota: &Arc<Quota>, account: &HostMemory) -> Result<Resources, LimitReached> {
        Ok(Resources {
            descriptors: quota.permit(Limit::Descriptors, 0)?,
            sockets: quota.permit(Limit::Sockets, 0)?,
            bytes: account.nothing(),
            opened: Vec::new(),
            allowed: quota.limits().get(Limit::Files),
        })
    }

    /// Counts the resources in a table and the one that is about to be added.
    pub(super) fn count(
        &mut self,
        table: &mut ResourceTable,
        opening: Opening,
        sizes: &[ResourceSize],
    ) -> Result<(), LimitReached> {
        self.opened.retain(|file| file.strong_count() > 0);
        let (mut bytes, mut listings, mut sockets) = (0, 0, 0);
        for entry in table.iter_mut() {
            let entry = &*entry;
            bytes += ENTRY;
            if entry.is::<DynInputStream>()
                || entry.is::<DynOutputStream>()
                || entry.is::<IncomingDatagramStream>()
                || entry.is::<OutgoingDatagramStream>()
            {
                bytes += BUFFER;
            } else if entry.is::<TcpSocket>() || entry.is::<UdpSocket>() {
                sockets += 1;
            } else if entry.is::<ListingStream>() {
                listings += 1;
            } else {
                bytes += sizes.iter().find_map(|size| size(entry)).unwrap_or(0);
            }
        }
        let files = self.opened.len() as u64 + listings + u64::from(opening == Opening::File);
        if opening == Opening::File && files > self.allowed {
            return Err(LimitReached {
                limit: Limit::Files,
                allowed: self.allowed,
                wanted: Some(files),
            });
        }
        self.bytes.resize(bytes)?;
        self.descriptors.resize(files)?;
        self.sockets
            .resize(sockets + u64::from(opening == Opening::Socket))
    }

    /// Records a file or directory that the component has opened.
    pub(super) fn note_opened(&mut self, table: &ResourceTable, opened: &Resource<Descriptor>) {
        self.opened
            .extend(table.get(opened).ok().map(|opened| match opened {
                Descriptor::File(file) => Arc::downgrade(&file.file),
                Descriptor::Dir(directory) => Arc::downgrade(&directory.dir),
            }));
    }
}

/// A component's directory listing, which is charged separately.
pub(crate) struct ListingStream {
    listing: Listing,
    next: usize,
}

impl ListingStream {
    pub(crate) fn new(listing: Listing) -> ListingStream {
        // A listing begins with `.` and `..`, which components do not see.
        ListingStream { listing, next: 2 }
    }

    /// Returns the next name and its file type.
    pub(crate) fn next(&mut self) -> Option<(&[u8], u8)> {
        let entry = self.listing.entry(self.next)?;
        self.next += 1;
        Some(entry)
    }
}
