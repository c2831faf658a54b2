//! The WASI 0.2 functions that open files and sockets. They are implemented by `wasmtime-wasi`, but
//! wrapped so that the files and sockets count toward the limits of the component's environment.

use crate::guest::Guest;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::sockets::network::{self, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::p2::{TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::WasiSocketsView;

type OpenAt = (
    Resource<Descriptor>,
    PathFlags,
    String,
    OpenFlags,
    DescriptorFlags,
);

/// Replaces these functions in a linker that contains the functions from `wasmtime-wasi`.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker
        .instance("wasi:filesystem/types@0.2.12")?
        .func_wrap_async("[method]descriptor.open-at", |store, parameters| {
            Box::new(open_at(store, parameters))
        })?;
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

async fn open_at(
    mut store: StoreContextMut<'_, Guest>,
    (directory, look_up, path, how, flags): OpenAt,
) -> wasmtime::Result<(Result<Resource<Descriptor>, ErrorCode>,)> {
    let guest = store.data_mut();
    if guest.room_for_opened(true).is_err() {
        return Ok((Err(ErrorCode::Quota),));
    }
    let mut files = guest.filesystem();
    let opened = HostDescriptor::open_at(&mut files, directory, look_up, path, how, flags).await;
    Ok((match opened {
        Ok(opened) => Ok(opened),
        Err(error) => Err(error.downcast()?),
    },))
}

fn create_tcp_socket(
    mut store: StoreContextMut<'_, Guest>,
    (family,): (IpAddressFamily,),
) -> wasmtime::Result<(Result<Resource<TcpSocket>, network::ErrorCode>,)> {
    let guest = store.data_mut();
    if guest.room_for_opened(false).is_err() {
        return Ok((Err(network::ErrorCode::NewSocketLimit),));
    }
    Ok((match guest.sockets().create_tcp_socket(family) {
        Ok(opened) => Ok(opened),
        Err(error) => Err(error.downcast()?),
    },))
}

async fn create_udp_socket(
    mut store: StoreContextMut<'_, Guest>,
    (family,): (IpAddressFamily,),
) -> wasmtime::Result<(Result<Resource<UdpSocket>, network::ErrorCode>,)> {
    let guest = store.data_mut();
    if guest.room_for_opened(false).is_err() {
        return Ok((Err(network::ErrorCode::NewSocketLimit),));
    }
    let mut sockets = guest.sockets();
    Ok((match sockets.create_udp_socket(family).await {
        Ok(opened) => Ok(opened),
        Err(error) => Err(error.downcast()?),
    },))
}
