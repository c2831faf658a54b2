//! Code shared by all kinds of sockets. It reads the addresses that guests pass, stores sockets by
//! number, counts them, and reports operating system errors.

use super::call::{Call, Out, Range, at_most};
use super::failure::{Failure, HostError};
use super::handles::{CountedSocket, HandleTable, Handles};
use super::kinds::{
    self, Buffer, ListenerId, Millis, OutU64, Slice, StreamId, TlsListenerId, TlsStreamId,
    UdpSocketId, Vectors,
};
use super::state::Guest;
use crate::engine::{Pressure, Shortage};
use crate::environment::{Permit, Quota};
use crate::timer;
use crate::travel::{Attachment, Resource};
use futures_lite::FutureExt;
use lunatic_abi::{Errno, FOREVER, Limit};
use lunatic_net::tcp::{self, Operation, TcpListener, TcpStream};
use lunatic_net::tls::{self, TlsListener, TlsStream};
use lunatic_net::udp::{self, UdpSocket};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of pieces in a write. More than this is a mistake or an attack, and more than
/// the operating system accepts in one call anyway.
const MAX_VECTORS: usize = 1024;

/// The id of one kind of socket. Its type determines which table holds the socket.
pub(crate) trait SocketId: Copy + Sized {
    type Socket: Clone;

    fn number(self) -> u64;

    fn table(handles: &mut Handles) -> &mut HandleTable<CountedSocket<Self::Socket>>;

    /// Stores a socket and returns its id.
    fn keep(call: &mut Call<'_>, held: CountedSocket<Self::Socket>) -> u64 {
        Self::table(call.guest().handles()).insert(held)
    }

    /// Returns the socket.
    fn socket(self, call: &mut Call<'_>) -> Result<Self::Socket, Failure> {
        let held = Self::table(call.guest().handles()).get(self.number())?;
        Ok(held.socket.clone())
    }

    /// Opens a socket if the environment's limit allows another one, and returns its id or an error
    /// id to the guest.
    fn open(
        call: &mut Call<'_>,
        out: Out<8>,
        open: impl FnOnce() -> io::Result<Self::Socket>,
    ) -> Result<i32, Failure> {
        let opened = match permit(call) {
            Ok(permit) => open()
                .map(|socket| CountedSocket { socket, permit })
                .map_err(|error| failure(&error)),
            Err(error) => Err(error),
        };
        Self::answer(call, out, opened)
    }

    /// Stores an opened socket, and returns its id or an error id to the guest.
    fn answer(
        call: &mut Call<'_>,
        out: Out<8>,
        opened: Result<CountedSocket<Self::Socket>, HostError>,
    ) -> Result<i32, Failure> {
        let result = opened.map(|held| Self::keep(call, held));
        call.timed_answer(out, result)
    }

    /// Stores an accepted connection, and writes the connection's id and the id of a lookup result
    /// that holds the peer's address. On error, writes the error's id and 0.
    fn answer_accepted(
        call: &mut Call<'_>,
        out: Out<8>,
        peer_out: Out<8>,
        accepted: io::Result<(CountedSocket<Self::Socket>, SocketAddr)>,
    ) -> Result<i32, Failure> {
        let (result, peer) = match accepted {
            Ok((held, peer)) => {
                let peer = call.keep_addresses(vec![peer])?;
                (Ok(Self::keep(call, held)), peer)
            }
            Err(error) => (Err(failure(&error)), 0),
        };
        call.put(peer_out, peer.to_le_bytes());
        call.answer(out, result)
    }
}

/// The id of a socket that can be sent in a message.
pub(crate) trait TravellerId: SocketId {
    fn pack(socket: Self::Socket) -> Resource;

    /// Returns the socket if the resource is of this kind.
    fn unpack(resource: &Resource) -> Option<&Self::Socket>;
}

/// A socket with a local address.
pub(crate) trait HasLocalAddr {
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A socket with a peer.
pub(crate) trait HasPeerAddr {
    fn peer_addr(&self) -> io::Result<SocketAddr>;
}

/// A byte stream with a timeout for each operation.
pub(crate) trait Stream: Send + Sync {
    fn wait(&self, operation: Operation) -> impl Ready;
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
    fn try_flush(&self) -> io::Result<()>;
    fn timeout(&self, operation: Operation) -> Option<Duration>;
    fn set_timeout(&self, operation: Operation, timeout: Option<Duration>);
}

macro_rules! sockets {
    ($($id:ident: $socket:ty, $table:ident;)*) => {$(
        impl SocketId for $id {
            type Socket = $socket;

            fn number(self) -> u64 {
                self.0
            }

            fn table(handles: &mut Handles) -> &mut HandleTable<CountedSocket<$socket>> {
                &mut handles.$table
            }
        }
    )*};
}

sockets! {
    ListenerId: TcpListener, listeners;
    StreamId: TcpStream, streams;
    TlsListenerId: TlsListener<Arc<Permit>>, tls_listeners;
    TlsStreamId: TlsStream, tls_streams;
    UdpSocketId: UdpSocket, udp_sockets;
}

macro_rules! travellers {
    ($($id:ident: $resource:ident;)*) => {$(
        impl TravellerId for $id {
            fn pack(socket: Self::Socket) -> Resource {
                Resource::$resource(socket)
            }

            fn unpack(resource: &Resource) -> Option<&Self::Socket> {
                match resource {
                    Resource::$resource(socket) => Some(socket),
                    _ => None,
                }
            }
        }
    )*};
}

travellers! {
    StreamId: TcpStream;
    TlsStreamId: TlsStream;
    UdpSocketId: UdpSocket;
}

macro_rules! addresses {
    ($($has:ident $address:ident: $($socket:ty),*;)*) => {$($(
        impl $has for $socket {
            fn $address(&self) -> io::Result<SocketAddr> {
                <$socket>::$address(self)
            }
        }
    )*)*};
}

addresses! {
    HasLocalAddr local_addr: TcpListener, TcpStream, TlsListener<Arc<Permit>>, UdpSocket;
    HasPeerAddr peer_addr: TcpStream, TlsStream, UdpSocket;
}

macro_rules! streams {
    ($($stream:ty, $flush:ident;)*) => {$(
        impl Stream for $stream {
            fn wait(&self, operation: Operation) -> impl Ready {
                <$stream>::wait(self, operation)
            }

            fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                <$stream>::try_read(self, buffer)
            }

            fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
                <$stream>::try_write_vectored(self, pieces)
            }

            fn try_flush(&self) -> io::Result<()> {
                self.$flush()
            }

            fn timeout(&self, operation: Operation) -> Option<Duration> {
                <$stream>::timeout(self, operation)
            }

            fn set_timeout(&self, operation: Operation, timeout: Option<Duration>) {
                <$stream>::set_timeout(self, operation, timeout);
            }
        }
    )*};
}

streams! {
    TcpStream, flush;
    TlsStream, try_flush;
}

/// Drops a socket.
pub(crate) fn drop_socket<I: SocketId>(call: &mut Call<'_>, id: I) -> Result<(), Failure> {
    let removed = I::table(call.guest().handles()).remove(id.number());
    removed.map(drop)
}

/// Creates another handle to a socket and returns the handle's id.
pub(crate) fn clone_socket<I: SocketId>(call: &mut Call<'_>, id: I) -> Result<u64, Failure> {
    let guest = call.guest();
    let table = I::table(guest.handles());
    let (held, name) = (table.len(), table.name());
    guest.room_for(held, &format!("handles to a {name}"))?;
    let table = I::table(guest.handles());
    let another = table.get(id.number())?.clone();
    Ok(table.insert(another))
}

/// Creates a copy of a socket that can be sent in a message.
pub(super) fn copy_to_send<I: TravellerId>(
    guest: &mut Guest,
    id: u64,
) -> Result<Attachment, Failure> {
    let held = I::table(guest.handles()).get(id)?.clone();
    Ok(packed::<I>(held))
}

fn packed<I: TravellerId>(held: CountedSocket<I::Socket>) -> Attachment {
    Attachment {
        resource: I::pack(held.socket),
        permit: Some(held.permit),
    }
}

/// Moves a socket into the current message and returns its index there.
pub(crate) fn push_socket<I: TravellerId>(call: &mut Call<'_>, id: I) -> Result<u64, Failure> {
    let guest = call.guest();
    guest.message()?;
    let held = I::table(guest.handles()).remove(id.number())?;
    guest.push_attachment(packed::<I>(held))
}

/// Moves a socket out of the current message and returns its id.
pub(crate) fn take_socket<I: TravellerId>(call: &mut Call<'_>, index: u64) -> Result<u64, Failure> {
    let guest = call.guest();
    let name = I::table(guest.handles()).name();
    let held = guest.take_attachment(index, name, |attachment| {
        let Some(socket) = I::unpack(&attachment.resource).cloned() else {
            return Err(attachment);
        };
        let permit = attachment
            .permit
            .expect("a socket in a message has been counted");
        Ok(CountedSocket { socket, permit })
    })?;
    Ok(I::keep(call, held))
}

/// Writes the id of a lookup result that holds the socket's own address.
pub(crate) fn local_addr<I>(call: &mut Call<'_>, id: I, out: OutU64) -> Result<i32, Failure>
where
    I: SocketId<Socket: HasLocalAddr>,
{
    let out = call.out(out)?;
    let address = id.socket(call)?.local_addr();
    answer_address(call, out, address)
}

/// Writes the id of a lookup result that holds the address of the socket's peer.
pub(crate) fn peer_addr<I>(call: &mut Call<'_>, id: I, out: OutU64) -> Result<i32, Failure>
where
    I: SocketId<Socket: HasPeerAddr>,
{
    let out = call.out(out)?;
    let address = id.socket(call)?.peer_addr();
    answer_address(call, out, address)
}

/// Writes as many bytes as a stream accepts, and waits until the operating system has taken them.
pub(crate) async fn write_vectored<I>(
    call: &mut Call<'_>,
    id: I,
    vectors: Vectors,
    written: OutU64,
) -> Result<i32, Failure>
where
    I: SocketId<Socket: Stream>,
{
    let out = call.out(written)?;
    let pieces = pieces(call, vectors)?;
    let stream = id.socket(call)?;
    let written = write(call, &stream, stream.wait(Operation::Write), &pieces).await;
    call.timed_answer(out, written)
}

/// Waits until a stream accepts bytes, then writes as much as it accepts.
pub(crate) async fn write(
    call: &mut Call<'_>,
    stream: &impl Stream,
    wait: impl Ready,
    pieces: &[Range],
) -> Result<u64, HostError> {
    let attempt = |call: &mut Call<'_>| stream.try_write_vectored(&call.slices(pieces));
    let count = persist(call, wait, attempt)
        .await
        .map_err(|error| failure(&error))?;
    // Accepted bytes may already be encrypted and cannot be taken back. On timeout, they count as
    // written, and the next write has to wait until they are sent.
    match flush_stream(call, stream).await {
        Err(error) if error.kind() != io::ErrorKind::TimedOut => Err(failure(&error)),
        _ => Ok(count as u64),
    }
}

/// Waits until the operating system has taken everything that a stream has accepted.
pub(crate) async fn flush_stream(call: &mut Call<'_>, stream: &impl Stream) -> io::Result<()> {
    persist(call, stream.wait(Operation::Write), |_| stream.try_flush()).await
}

/// Flushes a stream.
pub(crate) async fn flush<I>(call: &mut Call<'_>, id: I, error: OutU64) -> Result<i32, Failure>
where
    I: SocketId<Socket: Stream>,
{
    let out = call.out(error)?;
    let stream = id.socket(call)?;
    let result = flush_stream(call, &stream).await;
    done(call, out, result)
}

/// Reads from a stream.
pub(crate) async fn read<I>(
    call: &mut Call<'_>,
    id: I,
    buffer: Buffer,
    read: OutU64,
) -> Result<i32, Failure>
where
    I: SocketId<Socket: Stream>,
{
    let out = call.out(read)?;
    let range = call.range(buffer)?;
    let stream = id.socket(call)?;
    let wait = stream.wait(Operation::Read);
    let count = receive(call, range, wait, |bytes| stream.try_read(bytes)).await;
    call.timed_answer(out, count)
}

/// Waits until data is available, receives it into the guest's memory, and returns the number of
/// bytes.
pub(crate) async fn receive(
    call: &mut Call<'_>,
    range: Range,
    wait: impl Ready,
    mut try_receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> Result<u64, HostError> {
    let received = persist(call, wait, |call| try_receive(call.bytes_mut(range))).await;
    received
        .map(|count| count as u64)
        .map_err(|error| failure(&error))
}

macro_rules! timeouts {
    ($($set:ident $get:ident $operation:ident;)*) => {$(
        pub(crate) fn $set<I>(call: &mut Call<'_>, id: I, timeout: Millis) -> Result<(), Failure>
        where
            I: SocketId<Socket: Stream>,
        {
            id.socket(call)?.set_timeout(Operation::$operation, timeout.duration());
            Ok(())
        }

        pub(crate) fn $get<I>(call: &mut Call<'_>, id: I) -> Result<u64, Failure>
        where
            I: SocketId<Socket: Stream>,
        {
            Ok(milliseconds(id.socket(call)?.timeout(Operation::$operation)))
        }
    )*};
}

timeouts! {
    set_read_timeout get_read_timeout Read;
    set_write_timeout get_write_timeout Write;
    set_peek_timeout get_peek_timeout Peek;
}

/// Charges the environment for one more socket.
pub(crate) fn permit(call: &mut Call<'_>) -> Result<Arc<Permit>, HostError> {
    call.guest().charge_handles()?;
    let counted = call.guest().domain().quota().permit(Limit::Sockets, 1);
    counted
        .map(Arc::new)
        .map_err(|reached| HostError::new(Errno::LimitReached, reached))
}

/// How often a process that is waiting to open a socket retries even if it is not notified.
const RETRY: Duration = Duration::from_millis(100);

/// Charges the environment for one more socket. Waits until the environment is allowed another
/// socket and memory is no longer scarce.
pub(crate) async fn permit_in_time(quota: &Arc<Quota>, pressure: &Pressure) -> Arc<Permit> {
    loop {
        if pressure.shortage() >= Shortage::Accepts {
            timer::after(RETRY).await;
            continue;
        }
        if let Ok(permit) = quota.permit(Limit::Sockets, 1) {
            return Arc::new(permit);
        }
        let freed = quota.socket_freed();
        // A socket may have been released before the listener was created.
        if let Ok(permit) = quota.permit(Limit::Sockets, 1) {
            return Arc::new(permit);
        }
        // This process is not notified when other programs, or the machine itself, release sockets.
        let again = async {
            timer::after(RETRY).await;
        };
        freed.or(again).await;
    }
}

/// Reads a socket address.
pub(crate) fn socket_addr(
    call: &mut Call<'_>,
    address: kinds::SocketAddr,
) -> Result<SocketAddr, Failure> {
    let port = port(address.port)?;
    match address.family {
        4 => {
            let octets: [u8; 4] = call.array(address.ip)?;
            Ok(SocketAddr::from((Ipv4Addr::from(octets), port)))
        }
        6 => {
            let octets: [u8; 16] = call.array(address.ip)?;
            let (flow, scope) = (address.flow, address.scope);
            Ok(SocketAddrV6::new(Ipv6Addr::from(octets), port, flow, scope).into())
        }
        other => Err(Failure::trap(format!(
            "an address family must be 4 or 6, not {other}"
        ))),
    }
}

/// Checks a port number.
pub(crate) fn port(port: u32) -> Result<u16, Failure> {
    u16::try_from(port).map_err(|_| Failure::trap(format!("{port} is not a valid port number")))
}

/// Writes the id of a lookup result that holds a single address.
pub(crate) fn answer_address(
    call: &mut Call<'_>,
    out: Out<8>,
    address: io::Result<SocketAddr>,
) -> Result<i32, Failure> {
    let result = match address {
        Ok(address) => Ok(call.keep_addresses(vec![address])?),
        Err(error) => Err(failure(&error)),
    };
    call.answer(out, result)
}

/// A way to wait until an operation on a socket is worth retrying.
pub(crate) trait Ready: Send {
    fn ready(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

macro_rules! waits {
    ($($wait:ty),*) => {$(
        impl Ready for $wait {
            fn ready(&mut self) -> impl Future<Output = io::Result<()>> + Send {
                <$wait>::ready(self)
            }
        }
    )*};
}

waits!(tcp::Wait<'_>, tls::Wait<'_>, udp::Wait<'_>);

/// Retries an operation on a socket until it no longer blocks, waiting in between.
pub(crate) async fn persist<T>(
    call: &mut Call<'_>,
    mut wait: impl Ready,
    mut attempt: impl FnMut(&mut Call<'_>) -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match attempt(call) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait.ready().await?,
            done => return done,
        }
    }
}

/// Finishes a call whose only output is an error id.
pub(crate) fn done(
    call: &mut Call<'_>,
    out: Out<8>,
    result: io::Result<()>,
) -> Result<i32, Failure> {
    match result {
        Ok(()) => Ok(0),
        Err(error) => call.timed_answer(out, Err(failure(&error))),
    }
}

/// Reads and checks the pieces of a vectored write.
pub(crate) fn pieces(call: &mut Call<'_>, vectors: Vectors) -> Result<Vec<Range>, Failure> {
    let records = records(call, vectors, MAX_VECTORS)?;
    records
        .into_iter()
        .map(|[address, length]| call.range(Slice::of_bytes(address, length)))
        .collect()
}

/// Reads at most `most` address-length pairs. The memory that they refer to is not checked.
pub(crate) fn records(
    call: &mut Call<'_>,
    vectors: Vectors,
    most: usize,
) -> Result<Vec<[u32; 2]>, Failure> {
    let range = call.range(vectors)?;
    let (numbers, _) = call.bytes(range).as_chunks::<4>();
    let (records, _) = numbers.as_chunks::<2>();
    at_most(most, records.len(), "pieces")?;
    Ok(records
        .iter()
        .map(|record| record.map(u32::from_le_bytes))
        .collect())
}

/// Returns a timeout as guests represent it.
pub(crate) fn milliseconds(timeout: Option<Duration>) -> u64 {
    timeout.map_or(FOREVER, |time| {
        u64::try_from(time.as_millis()).unwrap_or(FOREVER)
    })
}

/// Returns the guest's error for an operating system error.
pub(crate) fn failure(error: &io::Error) -> HostError {
    use io::ErrorKind;
    let errno = match error.kind() {
        ErrorKind::TimedOut => Errno::TimedOut,
        ErrorKind::ConnectionRefused => Errno::ConnectionRefused,
        ErrorKind::ConnectionReset => Errno::ConnectionReset,
        ErrorKind::ConnectionAborted => Errno::ConnectionAborted,
        ErrorKind::NotConnected => Errno::NotConnected,
        ErrorKind::AddrInUse => Errno::AddrInUse,
        ErrorKind::AddrNotAvailable => Errno::AddrNotAvailable,
        ErrorKind::BrokenPipe => Errno::BrokenPipe,
        ErrorKind::NotFound => Errno::NotFound,
        ErrorKind::PermissionDenied => Errno::PermissionDenied,
        ErrorKind::NetworkUnreachable => Errno::NetworkUnreachable,
        ErrorKind::HostUnreachable => Errno::HostUnreachable,
        ErrorKind::InvalidInput => Errno::InvalidInput,
        ErrorKind::InvalidData => Errno::BadTls,
        // TLS streams fail with this if the peer closed the connection without sending
        // `close_notify`.
        ErrorKind::UnexpectedEof => Errno::ConnectionAborted,
        ErrorKind::ResourceBusy | ErrorKind::OutOfMemory => Errno::Exhausted,
        _ => match error.raw_os_error() {
            // There is no `ErrorKind` for EMFILE and ENFILE.
            Some(23 | 24) if cfg!(unix) => Errno::Exhausted,
            _ => Errno::Other,
        },
    };
    HostError::new(errno, error)
}
