//! UDP sockets.

use crate::error::LunaticError;
use crate::host;
use crate::net::dns::{ToSocketAddrs, address, first, only_address};
use crate::net::socket::handle;
use lunatic_abi::{Errno, ResourceKind};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A handle to a UDP socket. When the last handle in any process is dropped, the socket is closed
/// and its port is freed.
///
/// Datagrams may be lost, duplicated or reordered, and the operating system drops datagrams when
/// its buffer is full. When waiting for an answer, set a [timeout](Self::set_read_timeout).
///
/// As with a [`TcpStream`](crate::net::TcpStream), cloning a handle or sending it in a message
/// creates another handle to the same socket.
///
/// # Example
///
/// ```no_run
/// use lunatic::net::UdpSocket;
///
/// fn main() -> std::io::Result<()> {
///     let socket = UdpSocket::bind("127.0.0.1:34254")?;
///     let mut buffer = [0; 1500];
///     let (length, sender) = socket.recv_from(&mut buffer)?;
///     let datagram = &mut buffer[..length];
///     datagram.reverse();
///     socket.send_to(datagram, sender)?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    id: u64,
}

impl UdpSocket {
    /// Binds to the first address that works. Port 0 means any free port.
    ///
    /// # Errors
    ///
    /// Returns the error for the last address, or [`io::ErrorKind::InvalidInput`] if there are no
    /// addresses.
    pub fn bind<A: ToSocketAddrs>(addresses: A) -> io::Result<Self> {
        first(addresses, |address| {
            LunaticError::or_value(|id| host::udp::udp_bind(address, id)).map(|id| Self { id })
        })
    }

    /// Sets the peer. [`send`](Self::send) sends only to this peer, and datagrams from other
    /// addresses are not received. Calling this again replaces the peer. Nothing is sent, so the
    /// peer does not have to exist.
    pub fn connect<A: ToSocketAddrs>(&self, addresses: A) -> io::Result<()> {
        first(addresses, |address| {
            let timeout = lunatic_abi::FOREVER;
            LunaticError::or_value(|error| host::udp::udp_connect(self.id, address, timeout, error))
                .map(drop)
        })
    }

    /// Sends a datagram to the peer set by [`connect`](Self::connect), and returns the number of
    /// bytes sent.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::NotConnected`] if no peer is set, [`io::ErrorKind::InvalidInput`]
    /// if the data does not fit into a datagram (65,507 bytes with IPv4), and
    /// [`io::ErrorKind::ConnectionRefused`] if an earlier datagram is known not to have reached the
    /// peer.
    pub fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        let send = |sent: &mut u64| host::udp::udp_send(self.id, datagram, sent);
        Ok(LunaticError::or_value(send)? as usize)
    }

    /// Sends a datagram to the first address that works, and returns the number of bytes sent.
    /// Fails like [`send`](Self::send).
    pub fn send_to<A: ToSocketAddrs>(&self, datagram: &[u8], addresses: A) -> io::Result<usize> {
        first(addresses, |address| {
            let send = |sent: &mut u64| host::udp::udp_send_to(self.id, datagram, address, sent);
            Ok(LunaticError::or_value(send)? as usize)
        })
    }

    /// Waits for a datagram, and returns the number of bytes read into the buffer. Any bytes that
    /// do not fit are lost.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::TimedOut`] if a timeout is set and expires, and
    /// [`io::ErrorKind::ConnectionRefused`] like [`send`](Self::send).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let receive = |length: &mut u64| host::udp::udp_receive(self.id, buffer, length);
        Ok(LunaticError::or_value(receive)? as usize)
    }

    /// Like [`recv`](Self::recv), but also returns the sender.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut sender = 0;
        let length = LunaticError::or_value(|length| {
            host::udp::udp_receive_from(self.id, buffer, length, &mut sender)
        })?;
        Ok((length as usize, only_address(sender)?))
    }

    /// Returns the socket's address, with the actual port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address(|address| host::udp::udp_local_addr(self.id, address))
    }

    /// Returns the peer's address.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::NotConnected`] if no peer is set.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address(|address| host::udp::udp_peer_addr(self.id, address))
    }

    /// Sets how long a receive may wait. `None`, the default, means indefinitely. The timeout is
    /// rounded up to whole milliseconds; a timeout of zero does not wait. All handles to a socket
    /// share the timeout.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use lunatic::net::UdpSocket;
    /// use std::io::ErrorKind;
    /// use std::time::Duration;
    ///
    /// /// Repeats the question until an answer arrives, because either message may be lost.
    /// fn ask(server: &UdpSocket, question: &[u8], answer: &mut [u8]) -> std::io::Result<usize> {
    ///     server.set_read_timeout(Some(Duration::from_millis(500)));
    ///     loop {
    ///         server.send(question)?;
    ///         match server.recv(answer) {
    ///             Err(error) if error.kind() == ErrorKind::TimedOut => {}
    ///             received => return received,
    ///         }
    ///     }
    /// }
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        host::udp::set_udp_receive_timeout(self.id, host::milliseconds_or_forever(timeout));
    }

    /// Returns how long a receive may wait.
    pub fn read_timeout(&self) -> Option<Duration> {
        host::duration(host::udp::get_udp_receive_timeout(self.id))
    }

    /// Sets whether datagrams may be sent to a broadcast address. The default is false.
    pub fn set_broadcast(&self, broadcast: bool) {
        host::udp::set_udp_socket_broadcast(self.id, i32::from(broadcast));
    }

    /// Returns whether datagrams may be sent to a broadcast address.
    pub fn broadcast(&self) -> bool {
        host::udp::get_udp_socket_broadcast(self.id) != 0
    }

    /// Sets the datagrams' time to live: the maximum number of routers they may pass through.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::InvalidInput`] unless `ttl` is between 1 and 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        if !(1..=255).contains(&ttl) {
            let what = format!("the time to live must be between 1 and 255, not {ttl}");
            return Err(LunaticError::new(Errno::InvalidInput, what).into());
        }
        host::udp::set_udp_socket_ttl(self.id, ttl);
        Ok(())
    }

    /// Returns the maximum number of routers that datagrams may pass through.
    pub fn ttl(&self) -> u32 {
        host::udp::get_udp_socket_ttl(self.id)
    }
}

handle!(
    UdpSocket,
    ResourceKind::UdpSocket,
    host::udp::clone_udp_socket,
    host::udp::drop_udp_socket
);
