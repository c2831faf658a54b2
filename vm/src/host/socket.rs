//! What all kinds of sockets have in common: how guests' addresses are read, how sockets are stored
//! by number and counted, and how operating system errors are reported.

use crate::environment::{Permit, Quota};
use crate::guest::call::{Out, Range, at_most};
use crate::guest::kinds::{self, Slice, Vectors};
use crate::guest::{Call, Failure, Guest};
use crate::guest::{CountedSocket, HandleTable, Handles, HostError};
use crate::travel::{Attachment, Resource};
use lunatic_abi::{Errno, FOREVER, Limit};
use lunatic_net::tcp::{self, TcpStream};
use lunatic_net::tls::{self, TlsStream};
use lunatic_net::udp::{self, UdpSocket};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of pieces in a write. More are a mistake or an attack, and more than the
/// operating system takes at once.
const MAX_VECTORS: usize = 1024;

/// The table that holds a process's sockets of one kind.
pub(super) struct SocketTable<T> {
    pub(super) table: fn(&mut Handles) -> &mut HandleTable<CountedSocket<T>>,
    /// What a socket of this kind is called.
    pub(super) name: &'static str,
}

/// The TCP streams of a process.
pub(super) const STREAMS: SocketTable<TcpStream> = SocketTable {
    table: |handles| &mut handles.streams,
    name: "stream",
};

/// The TLS streams of a process.
pub(super) const TLS_STREAMS: SocketTable<TlsStream> = SocketTable {
    table: |handles| &mut handles.tls_streams,
    name: "TLS stream",
};

/// The UDP sockets of a process.
pub(super) const UDP_SOCKETS: SocketTable<UdpSocket> = SocketTable {
    table: |handles| &mut handles.udp_sockets,
    name: "UDP socket",
};

impl<T: Clone> SocketTable<T> {
    /// Keeps a socket and returns its id.
    pub(super) fn insert(&self, call: &mut Call<'_>, held: CountedSocket<T>) -> u64 {
        (self.table)(call.guest().handles()).insert(held)
    }

    /// Returns a socket by its id.
    pub(super) fn get(&self, call: &mut Call<'_>, id: u64) -> Result<T, Failure> {
        self.held(call.guest(), id).map(|held| held.socket)
    }

    fn held(&self, guest: &mut Guest, id: u64) -> Result<CountedSocket<T>, Failure> {
        (self.table)(guest.handles())
            .get(id)
            .cloned()
            .ok_or_else(|| self.unknown(id))
    }

    /// Removes a socket from the process.
    pub(super) fn remove(&self, call: &mut Call<'_>, id: u64) -> Result<CountedSocket<T>, Failure> {
        (self.table)(call.guest().handles())
            .remove(id)
            .ok_or_else(|| self.unknown(id))
    }

    /// Creates another handle to a socket and returns its id.
    pub(super) fn duplicate(&self, call: &mut Call<'_>, id: u64) -> Result<u64, Failure> {
        let handles = (self.table)(call.guest().handles()).len();
        call.guest()
            .room_for(handles, &format!("handles to a {}", self.name))?;
        let held = self.held(call.guest(), id)?;
        Ok(self.insert(call, held))
    }

    /// Makes a copy of a socket that can travel in a message.
    pub(super) fn attach(
        &self,
        guest: &mut Guest,
        id: u64,
        resource: fn(T) -> Resource,
    ) -> Result<Attachment, Failure> {
        let held = self.held(guest, id)?;
        Ok(Attachment {
            resource: resource(held.socket),
            permit: Some(held.permit),
        })
    }

    /// Opens a socket if the environment may have another one, and answers with its id or an error
    /// id.
    pub(super) fn open(
        &self,
        call: &mut Call<'_>,
        out: Out<8>,
        open: impl FnOnce() -> io::Result<T>,
    ) -> Result<i32, Failure> {
        let opened = match permit(call) {
            Ok(permit) => open()
                .map(|socket| CountedSocket { socket, permit })
                .map_err(|error| failure(&error)),
            Err(error) => Err(error),
        };
        self.answer(call, out, opened)
    }

    /// Keeps an opened socket, and answers with its id or an error id.
    pub(super) fn answer(
        &self,
        call: &mut Call<'_>,
        out: Out<8>,
        opened: Result<CountedSocket<T>, HostError>,
    ) -> Result<i32, Failure> {
        let result = opened.map(|held| self.insert(call, held));
        call.timed_answer(out, result)
    }

    fn unknown(&self, id: u64) -> Failure {
        Failure::trap(format!("there is no {} {id}", self.name))
    }
}

/// Counts another socket of the environment.
pub(super) fn permit(call: &mut Call<'_>) -> Result<Arc<Permit>, HostError> {
    let counted = call.guest().domain().quota().permit(Limit::Sockets, 1);
    counted
        .map(Arc::new)
        .map_err(|reached| HostError::new(Errno::LimitReached, reached))
}

/// Counts another socket of the environment, waiting until the environment may have one.
pub(super) async fn permit_in_time(quota: &Arc<Quota>) -> Arc<Permit> {
    loop {
        if let Ok(permit) = quota.permit(Limit::Sockets, 1) {
            return Arc::new(permit);
        }
        let freed = quota.socket_freed();
        // A socket may have been released before the listener was created.
        if let Ok(permit) = quota.permit(Limit::Sockets, 1) {
            return Arc::new(permit);
        }
        freed.await;
    }
}

/// Reads the address of a socket.
pub(super) fn socket_addr(
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
            "an address is of family 4 or 6, not {other}"
        ))),
    }
}

/// Checks a port.
pub(super) fn port(port: u32) -> Result<u16, Failure> {
    u16::try_from(port).map_err(|_| Failure::trap(format!("{port} is no port")))
}

/// Answers with the id of a look-up result that holds one address.
pub(super) fn answer_address(
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

/// Keeps an accepted connection, and writes its id and the id of a result that holds its peer's
/// address; on an error, the error's id and 0.
pub(super) fn answer_accepted<T: Clone>(
    call: &mut Call<'_>,
    kept: &SocketTable<T>,
    out: Out<8>,
    peer_out: Out<8>,
    accepted: io::Result<(CountedSocket<T>, SocketAddr)>,
) -> Result<i32, Failure> {
    let (result, peer) = match accepted {
        Ok((held, peer)) => {
            let peer = call.keep_addresses(vec![peer])?;
            (Ok(kept.insert(call, held)), peer)
        }
        Err(error) => (Err(failure(&error)), 0),
    };
    call.put(peer_out, peer.to_le_bytes());
    call.answer(out, result)
}

/// Waits until an operation on a socket is worth retrying.
pub(super) trait Ready {
    fn ready(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

impl Ready for tcp::Wait<'_> {
    fn ready(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        tcp::Wait::ready(self)
    }
}

impl Ready for tls::Wait<'_> {
    fn ready(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        tls::Wait::ready(self)
    }
}

impl Ready for udp::Wait<'_> {
    fn ready(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        udp::Wait::ready(self)
    }
}

/// Retries an operation on a socket until it no longer blocks, waiting in between.
pub(super) async fn persist<T>(
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

/// Answers a call that writes nothing but an error id.
pub(super) fn done(
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
pub(super) fn pieces(call: &mut Call<'_>, vectors: Vectors) -> Result<Vec<Range>, Failure> {
    let records = records(call, vectors, MAX_VECTORS)?;
    records
        .into_iter()
        .map(|[address, length]| call.range(Slice::of_bytes(address, length)))
        .collect()
}

/// Reads at most `most` pairs of an address and a length. The memory they point to is not checked.
pub(super) fn records(
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

/// Returns a timeout in the guests' representation.
pub(super) fn milliseconds(timeout: Option<Duration>) -> u64 {
    timeout.map_or(FOREVER, |time| {
        u64::try_from(time.as_millis()).unwrap_or(FOREVER)
    })
}

/// Returns the guest's error for an operating system error.
pub(super) fn failure(error: &io::Error) -> HostError {
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
        // A TLS stream whose peer did not announce the end.
        ErrorKind::UnexpectedEof => Errno::ConnectionAborted,
        ErrorKind::ResourceBusy | ErrorKind::OutOfMemory => Errno::Exhausted,
        _ => match error.raw_os_error() {
            // EMFILE and ENFILE have no `ErrorKind` of their own.
            Some(23 | 24) if cfg!(unix) => Errno::Exhausted,
            _ => Errno::Other,
        },
    };
    HostError::new(errno, error)
}
