//! The WASI 0.2 functions that open files and sockets, or that take large arguments. They are
//! implemented by `wasmtime-wasi`, except for directory listings. Files, listings and sockets are
//! counted before they are opened, and opening them fails once the limits of the component's
//! environment are reached. The size of the arguments that a function holds while it waits is
//! limited. Resources in the component's table are counted when the component makes its next call;
//! see [`Guest`].

use crate::environment::Charge;
use crate::environment::wasi::WasiErrno;
use crate::environment::wasi::listing::{Listing, Reading, file_type};
use crate::guest::{BUFFER, Guest, ListingStream, Opening};
use crate::unblock::unblock;
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::bindings::io::{poll, streams};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{Host as _, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket as _;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, Network, TcpSocket, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtxView, WasiView};

type OpenAt = (
    Resource<Descriptor>,
    PathFlags,
    String,
    OpenFlags,
    DescriptorFlags,
);

type Accepted = (
    Resource<TcpSocket>,
    Resource<DynInputStream>,
    Resource<DynOutputStream>,
);

/// The maximum length of a name that is looked up, in bytes. A DNS name has at most 253 characters.
const MAX_NAME: usize = 1024;

/// The maximum number of pollables that a component can wait for in one call.
const MAX_POLLED: usize = 8192;

/// How many names in a directory are read at a time.
const NAMES: usize = 1024;

/// Replaces these functions in a linker that contains the functions from `wasmtime-wasi`.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut files = linker.instance("wasi:filesystem/types@0.2.12")?;
    files.func_wrap_async("[method]descriptor.open-at", |store, parameters| {
        Box::new(open_at(store, parameters))
    })?;
    files.func_wrap_async("[method]descriptor.write", |store, parameters| {
        Box::new(write(store, parameters))
    })?;
    files.resource(
        "directory-entry-stream",
        ResourceType::host::<ListingStream>(),
        |mut store, listing| {
            let listing = Resource::<ListingStream>::new_own(listing);
            store.data_mut().ctx().table.delete(listing)?;
            Ok(())
        },
    )?;
    files.func_wrap_async("[method]descriptor.read-directory", |store, parameters| {
        Box::new(read_directory(store, parameters))
    })?;
    files.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        read_directory_entry,
    )?;
    linker
        .instance("wasi:io/streams@0.2.12")?
        .func_wrap("[method]output-stream.write", write_to_stream)?;
    linker
        .instance("wasi:io/poll@0.2.12")?
        .func_wrap_async("poll", |store, parameters| {
            Box::new(poll(store, parameters))
        })?;
    linker
        .instance("wasi:sockets/ip-name-lookup@0.2.12")?
        .func_wrap("resolve-addresses", resolve_addresses)?;
    linker
        .instance("wasi:sockets/tcp@0.2.12")?
        .func_wrap("[method]tcp-socket.accept", accept)?;
    linker
        .instance("wasi:sockets/tcp-create-socket@0.2.12")?
        .func_wrap("create-tcp-socket", create_tcp_socket)?;
    linker
        .instance("wasi:sockets/udp-create-socket@0.2.12")?
        .func_wrap_async("create-udp-socket", |store, parameters| {
            Box::new(create_udp_socket(store, parameters))
        })?;
    linker.allow_shadowing(false);
    Ok(())
}

fn files(view: WasiCtxView<'_>) -> WasiFilesystemCtxView<'_> {
    WasiFilesystemCtxView {
        ctx: view.ctx.filesystem(),
        table: view.table,
    }
}

fn sockets(view: WasiCtxView<'_>) -> WasiSocketsCtxView<'_> {
    WasiSocketsCtxView {
        ctx: view.ctx.sockets(),
        table: view.table,
    }
}

async fn open_at(
    mut store: StoreContextMut<'_, Guest>,
    (directory, look_up, path, how, flags): OpenAt,
) -> wasmtime::Result<(Result<Resource<Descriptor>, ErrorCode>,)> {
    let guest = store.data_mut();
    let Ok(view) = guest.open_resource(Opening::File) else {
        return Ok((Err(ErrorCode::Quota),));
    };
    let mut files = files(view);
    let opened = HostDescriptor::open_at(&mut files, directory, look_up, path, how, flags).await;
    Ok((match opened {
        Ok(opened) => {
            guest.note_opened(&opened);
            Ok(opened)
        }
        Err(error) => Err(error.downcast()?),
    },))
}

/// Writes to a file. The component is charged for the bytes until they are written.
async fn write(
    mut store: StoreContextMut<'_, Guest>,
    (file, bytes, offset): (Resource<Descriptor>, Vec<u8>, u64),
) -> wasmtime::Result<(Result<u64, ErrorCode>,)> {
    let guest = store.data_mut();
    let account = guest.process().host_memory().clone();
    let Ok(_charge) = account.charge(bytes.len() as u64) else {
        return Ok((Err(ErrorCode::InsufficientMemory),));
    };
    let mut files = files(guest.ctx());
    Ok((
        match HostDescriptor::write(&mut files, file, bytes, offset).await {
            Ok(written) => Ok(written),
            Err(error) => Err(error.downcast()?),
        },
    ))
}

/// Lists a directory on another thread. The component is charged for the names.
async fn read_directory(
    mut store: StoreContextMut<'_, Guest>,
    (directory,): (Resource<Descriptor>,),
) -> wasmtime::Result<(Result<Resource<ListingStream>, ErrorCode>,)> {
    let guest = store.data_mut();
    let charge = guest.process().host_memory().nothing();
    let Ok(view) = guest.open_resource(Opening::File) else {
        return Ok((Err(ErrorCode::Quota),));
    };
    let directory = match view.table.get(&directory)? {
        Descriptor::Dir(directory) => directory.dir.clone(),
        Descriptor::File(_) => return Ok((Err(ErrorCode::NotDirectory),)),
    };
    Ok((match unblock(move || list(&directory, charge)).await {
        Ok(listing) => Ok(view.table.push(ListingStream::new(listing))?),
        Err(error) => Err(error),
    },))
}

fn list(directory: &File, charge: Charge) -> Result<Listing, ErrorCode> {
    let code = |error| match error {
        WasiErrno::Nomem => ErrorCode::InsufficientMemory,
        WasiErrno::Acces => ErrorCode::Access,
        WasiErrno::Noent => ErrorCode::NoEntry,
        _ => ErrorCode::Io,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, ".", flags, Mode::empty());
    let opened = opened.map_err(io::Error::from)?;
    let mut reading = Reading::begin(opened.into(), charge).map_err(code)?;
    while !reading.go_on(NAMES).map_err(code)? {}
    Ok(reading.finish())
}

fn read_directory_entry(
    mut store: StoreContextMut<'_, Guest>,
    (listing,): (Resource<ListingStream>,),
) -> wasmtime::Result<(Result<Option<DirectoryEntry>, ErrorCode>,)> {
    let listing = store.data_mut().ctx().table.get_mut(&listing)?;
    let Some((name, kind)) = listing.next() else {
        return Ok((Ok(None),));
    };
    let of = |named| file_type(named) == kind;
    let type_ = match () {
        () if of(FileType::RegularFile) => DescriptorType::RegularFile,
        () if of(FileType::Directory) => DescriptorType::Directory,
        () if of(FileType::Symlink) => DescriptorType::SymbolicLink,
        () if of(FileType::CharacterDevice) => DescriptorType::CharacterDevice,
        () if of(FileType::BlockDevice) => DescriptorType::BlockDevice,
        () if of(FileType::Socket) => DescriptorType::Socket,
        () => DescriptorType::Unknown,
    };
    Ok((match std::str::from_utf8(name) {
        Ok(name) => Ok(Some(DirectoryEntry {
            type_,
            name: name.to_string(),
        })),
        Err(_) => Err(ErrorCode::IllegalByteSequence),
    },))
}

/// Writes to a stream. The length is checked here because file streams would accept any number of
/// bytes.
fn write_to_stream(
    mut store: StoreContextMut<'_, Guest>,
    (stream, bytes): (Resource<DynOutputStream>, Vec<u8>),
) -> wasmtime::Result<(Result<(), streams::StreamError>,)> {
    if bytes.len() as u64 > BUFFER {
        return Err(wasmtime::Error::msg(format!(
            "a write of {} bytes exceeds what `check-write` permits",
            bytes.len()
        )));
    }
    let table = store.data_mut().ctx().table;
    Ok((
        match streams::HostOutputStream::write(table, stream, bytes) {
            Ok(()) => Ok(()),
            Err(error) => Err(streams::Host::convert_stream_error(table, error)?),
        },
    ))
}

/// Waits for one of several pollables. A component can list the same pollable any number of times.
async fn poll(
    mut store: StoreContextMut<'_, Guest>,
    (pollables,): (Vec<Resource<DynPollable>>,),
) -> wasmtime::Result<(Vec<u32>,)> {
    if pollables.len() > MAX_POLLED {
        return Err(wasmtime::Error::msg(format!(
            "cannot poll {} pollables at once: the maximum is {MAX_POLLED}",
            pollables.len()
        )));
    }
    Ok((poll::Host::poll(store.data_mut().ctx().table, pollables).await?,))
}

fn resolve_addresses(
    mut store: StoreContextMut<'_, Guest>,
    (network, name): (Resource<Network>, String),
) -> wasmtime::Result<(Result<Resource<ResolveAddressStream>, network::ErrorCode>,)> {
    if name.len() > MAX_NAME {
        return Ok((Err(network::ErrorCode::InvalidArgument),));
    }
    Ok((
        match sockets(store.data_mut().ctx()).resolve_addresses(network, name) {
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(error.downcast()?),
        },
    ))
}

fn accept(
    mut store: StoreContextMut<'_, Guest>,
    (listener,): (Resource<TcpSocket>,),
) -> wasmtime::Result<(Result<Accepted, network::ErrorCode>,)> {
    let Ok(view) = store.data_mut().open_resource(Opening::Socket) else {
        return Ok((Err(network::ErrorCode::NewSocketLimit),));
    };
    Ok((match sockets(view).accept(listener) {
        Ok(accepted) => Ok(accepted),
        Err(error) => Err(error.downcast()?),
    },))
}

fn create_tcp_socket(
    mut store: StoreContextMut<'_, Guest>,
    (family,): (IpAddressFamily,),
) -> wasmtime::Result<(Result<Resource<TcpSocket>, network::ErrorCode>,)> {
    let Ok(view) = store.data_mut().open_resource(Opening::Socket) else {
        return Ok((Err(network::ErrorCode::NewSocketLimit),));
    };
    Ok((match sockets(view).create_tcp_socket(family) {
        Ok(opened) => Ok(opened),
        Err(error) => Err(error.downcast()?),
    },))
}

async fn create_udp_socket(
    mut store: StoreContextMut<'_, Guest>,
    (family,): (IpAddressFamily,),
) -> wasmtime::Result<(Result<Resource<UdpSocket>, network::ErrorCode>,)> {
    let Ok(view) = store.data_mut().open_resource(Opening::Socket) else {
        return Ok((Err(network::ErrorCode::NewSocketLimit),));
    };
    let mut sockets = sockets(view);
    Ok((match sockets.create_udp_socket(family).await {
        Ok(opened) => Ok(opened),
        Err(error) => Err(error.downcast()?),
    },))
}
