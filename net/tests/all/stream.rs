use crate::pair::{fill, kind, pair, raw_pair, read, read_all, write_all};
use lunatic_net::tcp::{Operation, TcpStream};
use smol::future::{poll_once, zip};
use smol::{block_on, spawn};
use std::collections::HashSet;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

/// Short, because the timeout itself is being tested. Nothing happens before it expires.
const SHORT: Option<Duration> = Some(Duration::from_millis(5));

#[test]
fn try_operations_never_wait() {
    block_on(async {
        let (client, _server) = pair().await;
        let mut buffer = [0; 8];
        assert_eq!(kind(client.try_read(&mut buffer)), ErrorKind::WouldBlock);
        assert_eq!(kind(client.try_peek(&mut buffer)), ErrorKind::WouldBlock);
        let mut buffers = [IoSliceMut::new(&mut buffer)];
        assert_eq!(
            kind(client.try_read_vectored(&mut buffers)),
            ErrorKind::WouldBlock
        );
        assert!(fill(&client) > 0);
    });
}

#[test]
fn peeking_leaves_the_bytes_in_the_stream() {
    block_on(async {
        let (client, server) = pair().await;
        write_all(&client, b"look").await;
        server
            .wait(Operation::Peek)
            .ready()
            .await
            .expect("bytes arrive");
        let mut buffer = [0; 8];
        for _ in 0..3 {
            assert_eq!(
                server.try_peek(&mut buffer).expect("bytes are available"),
                4
            );
            assert_eq!(&buffer[..4], b"look");
        }
        assert_eq!(
            server.try_read(&mut buffer).expect("bytes are available"),
            4
        );
        assert_eq!(kind(server.try_peek(&mut buffer)), ErrorKind::WouldBlock);
    });
}

#[test]
fn vectored_reads_and_writes_preserve_the_order() {
    block_on(async {
        let (client, server) = pair().await;
        let parts: [&[u8]; 4] = [b"", b"one", b"", b"three"];
        let written = client
            .try_write_vectored(&parts.map(IoSlice::new))
            .expect("the send buffer has room");
        assert_eq!(written, 8);
        server.readable().await.expect("bytes arrive");
        let (mut first, mut second) = ([0; 2], [0; 16]);
        let mut buffers = [
            IoSliceMut::new(&mut []),
            IoSliceMut::new(&mut first),
            IoSliceMut::new(&mut second),
        ];
        assert_eq!(
            server
                .try_read_vectored(&mut buffers)
                .expect("bytes are available"),
            8
        );
        assert_eq!((&first, &second[..6]), (b"on", &b"ethree"[..]));
    });
}

#[test]
fn a_long_list_of_buffers_leads_to_a_partial_write_or_read() {
    block_on(async {
        let (client, server) = pair().await;
        let many = vec![IoSlice::new(b"x"); 5000];
        assert_eq!(
            client
                .try_write_vectored(&many)
                .expect("the send buffer has room"),
            1024
        );

        server.readable().await.expect("bytes arrive");
        let mut bytes = vec![0; 5000];
        let mut many: Vec<_> = bytes.chunks_mut(1).map(IoSliceMut::new).collect();
        assert_eq!(
            server
                .try_read_vectored(&mut many)
                .expect("bytes are available"),
            1024
        );
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'x').count(), 1024);
    });
}

#[test]
fn empty_buffers_before_the_bytes_are_not_mistaken_for_the_end() {
    block_on(async {
        let (client, server) = pair().await;
        let mut many = vec![IoSlice::new(b""); 5000];
        many.push(IoSlice::new(b"bytes"));
        assert_eq!(
            client
                .try_write_vectored(&many)
                .expect("the send buffer has room"),
            5
        );

        server.readable().await.expect("bytes arrive");
        let mut many: Vec<_> = (0..5000).map(|_| IoSliceMut::new(&mut [])).collect();
        let mut room = [0; 8];
        many.push(IoSliceMut::new(&mut room));
        assert_eq!(
            server
                .try_read_vectored(&mut many)
                .expect("bytes are available"),
            5
        );
        assert_eq!(&room[..5], b"bytes");
    });
}

#[test]
fn operations_with_empty_buffers_complete_at_once() {
    block_on(async {
        let (client, _server) = pair().await;
        assert_eq!(
            client
                .try_read(&mut [])
                .expect("no bytes have to be transferred"),
            0
        );
        assert_eq!(
            client
                .try_peek(&mut [])
                .expect("no bytes have to be transferred"),
            0
        );
        assert_eq!(
            client
                .try_read_vectored(&mut [])
                .expect("no bytes have to be transferred"),
            0
        );
        assert_eq!(
            client
                .try_read_vectored(&mut [IoSliceMut::new(&mut [])])
                .expect("no bytes have to be transferred"),
            0
        );
        assert_eq!(
            client
                .try_write_vectored(&[])
                .expect("no bytes have to be transferred"),
            0
        );
        assert_eq!(
            client
                .try_write_vectored(&[IoSlice::new(&[])])
                .expect("no bytes have to be transferred"),
            0
        );
        client.flush().expect("no bytes have to be transferred");
    });
}

#[test]
fn every_operation_has_its_own_timeout_and_clones_share_it() {
    block_on(async {
        let (client, _server) = pair().await;
        let clone = client.clone();
        let operations = [Operation::Read, Operation::Write, Operation::Peek];
        for operation in operations {
            assert_eq!(client.timeout(operation), None);
        }
        for (seconds, operation) in (1..).zip(operations) {
            client.set_timeout(operation, Some(Duration::from_secs(seconds)));
        }
        for (seconds, operation) in (1..).zip(operations) {
            assert_eq!(clone.timeout(operation), Some(Duration::from_secs(seconds)));
        }
        clone.set_timeout(Operation::Peek, SHORT);
        let error = client
            .wait(Operation::Peek)
            .ready()
            .await
            .expect_err("the peer does not write");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "nothing to read within 5ms");
    });
}

/// Tests T113: at this end of the connection, a peer that has vanished looks the same as a silent
/// peer.
#[test]
fn a_timeout_detects_a_silent_peer() {
    block_on(async {
        let (client, server) = pair().await;
        client.set_timeout(Operation::Read, SHORT);
        assert_eq!(kind(read(&client, &mut [0]).await), ErrorKind::TimedOut);
        // The stream still works after the timeout.
        write_all(&server, b"late").await;
        client.set_timeout(Operation::Read, None);
        assert_eq!(
            read(&client, &mut [0; 8])
                .await
                .expect("bytes are available"),
            4
        );
    });
}

#[test]
fn a_wait_can_have_its_own_timeout() {
    block_on(async {
        let (client, server) = pair().await;
        let error = client
            .wait_within(Operation::Read, SHORT)
            .ready()
            .await
            .expect_err("the peer does not write");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(
            client.timeout(Operation::Read),
            None,
            "the wait must not change the stream's timeout"
        );
        client.set_timeout(Operation::Read, Some(Duration::ZERO));
        let mut wait = client.wait_within(Operation::Read, None);
        let mut ready = Box::pin(wait.ready());
        assert!(
            poll_once(&mut ready).await.is_none(),
            "the stream's timeout must not end the wait"
        );
        write_all(&server, b"!").await;
        ready.await.expect("bytes arrive");
    });
}

#[test]
fn a_timeout_of_zero_tries_once() {
    block_on(async {
        let (client, server) = pair().await;
        client.set_timeout(Operation::Read, Some(Duration::ZERO));
        let waited = poll_once(read(&client, &mut [0]))
            .await
            .expect("a timeout of zero does not wait");
        assert_eq!(kind(waited), ErrorKind::TimedOut);

        write_all(&server, b"here").await;
        client.set_timeout(Operation::Read, None);
        client.readable().await.expect("bytes arrive");
        client.set_timeout(Operation::Read, Some(Duration::ZERO));
        let mut buffer = [0; 8];
        let tried = poll_once(read(&client, &mut buffer))
            .await
            .expect("a timeout of zero does not wait");
        assert_eq!(tried.expect("bytes are available"), 4);
    });
}

#[test]
fn a_timeout_beyond_the_range_of_the_clock_means_no_timeout() {
    block_on(async {
        for endless in [Duration::from_millis(u64::MAX), Duration::MAX] {
            let (client, server) = pair().await;
            client.set_timeout(Operation::Read, Some(endless));
            let mut buffer = [0; 8];
            let mut reading = Box::pin(read(&client, &mut buffer));
            assert!(poll_once(&mut reading).await.is_none());
            write_all(&server, b"late").await;
            assert_eq!(reading.await.expect("bytes are available"), 4);
            let address = server.local_addr().expect("a bound socket has an address");
            // The connect must be refused rather than panic, because the listener no longer exists.
            assert!(TcpStream::connect(address, Some(endless)).await.is_err());
        }
    });
}

/// Otherwise, a reader whose bytes are always taken by another reader would wait forever.
#[test]
fn a_reader_that_is_woken_without_getting_bytes_still_times_out() {
    block_on(async {
        let (client, server) = pair().await;
        write_all(&client, b"never read, so the stream stays readable").await;
        server.set_timeout(Operation::Read, SHORT);
        let mut wait = server.wait(Operation::Read);
        let error = loop {
            if let Err(error) = wait.ready().await {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

/// Tests T112.
#[test]
fn a_slow_reader_makes_its_writer_wait() {
    block_on(async {
        let (client, server) = pair().await;
        let written = fill(&client);
        assert!(
            written < 64 << 20,
            "the kernel buffered {written} bytes for a peer that never reads"
        );

        client.set_timeout(Operation::Write, SHORT);
        let error = client.writable().await.expect_err("the peer does not read");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "no room to write within 5ms");

        client.set_timeout(Operation::Write, None);
        let reader = spawn(async move { read_all(&server).await.len() });
        client.writable().await.expect("there is room again");
        let more = fill(&client);
        drop(client);
        assert_eq!(
            reader.await,
            written + more,
            "a timeout must not lose any bytes"
        );
    });
}

#[test]
fn a_reader_waits_for_a_slow_writer() {
    block_on(async {
        let (client, server) = pair().await;
        let reader = spawn(async move { read_all(&server).await });
        for byte in b"drop by drop" {
            write_all(&client, &[*byte]).await;
            smol::future::yield_now().await;
        }
        drop(client);
        assert_eq!(reader.await, b"drop by drop");
    });
}

/// Tests T113.
#[test]
fn either_end_can_close_its_writing_direction_and_continue_to_read() {
    block_on(async {
        for client_first in [true, false] {
            let (client, server) = pair().await;
            let (first, second) = if client_first {
                (client, server)
            } else {
                (server, client)
            };
            write_all(&first, b"question").await;
            first
                .shutdown(Shutdown::Write)
                .expect("the stream is connected");
            assert_eq!(read_all(&second).await, b"question");
            assert_eq!(
                kind(first.try_write_vectored(&[IoSlice::new(b"x")])),
                ErrorKind::BrokenPipe
            );
            write_all(&second, b"answer").await;
            second
                .shutdown(Shutdown::Write)
                .expect("the stream is connected");
            assert_eq!(read_all(&first).await, b"answer");
        }
    });
}

/// Tests T113.
#[test]
fn closing_the_reading_direction_wakes_the_reader_and_does_not_affect_the_writer() {
    block_on(async {
        let (client, server) = pair().await;
        let reader = client.clone();
        let mut buffer = [0; 8];
        let mut reading = Box::pin(read(&reader, &mut buffer));
        assert!(poll_once(&mut reading).await.is_none());
        client
            .shutdown(Shutdown::Read)
            .expect("the stream is connected");
        assert_eq!(reading.await.expect("the peer has closed the stream"), 0);

        write_all(&client, b"still here").await;
        drop((client, reader));
        assert_eq!(read_all(&server).await, b"still here");
    });
}

#[test]
fn a_stream_that_has_ended_is_always_readable() {
    block_on(async {
        let (client, server) = pair().await;
        drop(server);
        for _ in 0..10 {
            client
                .readable()
                .await
                .expect("a stream that has ended is readable");
            assert_eq!(
                client
                    .try_read(&mut [0])
                    .expect("the peer has closed the stream"),
                0
            );
            assert_eq!(
                client
                    .try_peek(&mut [0])
                    .expect("the peer has closed the stream"),
                0
            );
        }
    });
}

/// Tests T113.
#[test]
fn a_reset_is_reported_once() {
    block_on(async {
        let (stream, raw) = raw_pair().await;
        let mut buffer = [0; 8];
        let mut reading = Box::pin(read(&stream, &mut buffer));
        assert!(poll_once(&mut reading).await.is_none());
        socket2::SockRef::from(&raw)
            .set_linger(Some(Duration::ZERO))
            .expect("the system supports the option");
        drop(raw);
        assert_eq!(kind(reading.await), ErrorKind::ConnectionReset);
        assert_eq!(
            read(&stream, &mut buffer)
                .await
                .expect("the peer has closed the stream"),
            0
        );
        stream
            .writable()
            .await
            .expect("a stream that was reset is writable");
        assert_eq!(
            kind(stream.try_write_vectored(&[IoSlice::new(b"x")])),
            ErrorKind::BrokenPipe
        );
        assert_eq!(kind(stream.peer_addr()), ErrorKind::NotConnected);
        assert_eq!(
            kind(stream.shutdown(Shutdown::Both)),
            ErrorKind::NotConnected
        );
    });
}

#[test]
fn a_reset_wakes_a_waiting_writer() {
    block_on(async {
        let (stream, raw) = raw_pair().await;
        fill(&stream);
        let mut wait = stream.wait(Operation::Write);
        let mut waiting = Box::pin(wait.ready());
        assert!(poll_once(&mut waiting).await.is_none());
        // Closing a socket that has unread bytes resets the connection.
        drop(raw);
        waiting.await.expect("a stream that was reset is writable");
        assert_eq!(
            kind(stream.try_write_vectored(&[IoSlice::new(b"x")])),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn a_dropped_wait_loses_no_bytes() {
    block_on(async {
        let (client, server) = pair().await;
        for byte in 0..100 {
            let mut buffer = [0; 1];
            let mut abandoned = Box::pin(read(&server, &mut buffer));
            assert!(poll_once(&mut abandoned).await.is_none());
            write_all(&client, &[byte]).await;
            drop(abandoned);
            assert_eq!(
                read(&server, &mut buffer)
                    .await
                    .expect("the peer wrote a byte"),
                1
            );
            assert_eq!(buffer, [byte]);
        }
    });
}

/// Tests T115.
#[test]
fn a_waiting_reader_does_not_delay_a_writer() {
    block_on(async {
        let (client, server) = pair().await;
        let echo = spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            loop {
                match read(&server, &mut buffer)
                    .await
                    .expect("the stream does not fail")
                {
                    0 => return,
                    length => write_all(&server, &buffer[..length]).await,
                }
            }
        });
        let sent: Vec<u8> = (0..4 << 20)
            .map(|position: u32| (position % 251) as u8)
            .collect();
        let reader = client.clone();
        let writing = async {
            write_all(&client, &sent).await;
            client
                .shutdown(Shutdown::Write)
                .expect("the stream is connected");
        };
        let (received, ()) = zip(read_all(&reader), writing).await;
        assert_eq!(received, sent);
        echo.await;
    });
}

/// Tests T115.
#[test]
fn two_waiting_readers_are_both_woken() {
    block_on(async {
        let (client, server) = pair().await;
        let other = server.clone();
        let (mut one, mut two) = ([0; 1], [0; 1]);
        let mut reading = Box::pin(zip(read(&server, &mut one), read(&other, &mut two)));
        assert!(poll_once(&mut reading).await.is_none());
        write_all(&client, b"ab").await;
        let (first, second) = reading.await;
        assert_eq!(
            (
                first.expect("the peer wrote a byte"),
                second.expect("the peer wrote a byte")
            ),
            (1, 1)
        );
        let mut both = [one[0], two[0]];
        both.sort();
        assert_eq!(&both, b"ab");
    });
}

/// Tests T115.
#[test]
fn each_byte_of_a_stream_goes_to_exactly_one_reader() {
    let (client, server) = block_on(pair());
    let count = |server: TcpStream| async move {
        let (mut got, mut buffer) = ([0u64; 256], [0; 100]);
        loop {
            match read(&server, &mut buffer)
                .await
                .expect("the stream does not fail")
            {
                0 => return got,
                length => buffer[..length]
                    .iter()
                    .for_each(|&byte| got[byte as usize] += 1),
            }
        }
    };
    let readers = [(); 4].map(|()| {
        let server = server.clone();
        thread::spawn(move || block_on(count(server)))
    });
    let block: Vec<u8> = (0..=255).collect();
    for _ in 0..1000 {
        block_on(write_all(&client, &block));
    }
    drop(client);
    let mut got = [0; 256];
    for reader in readers {
        let counts = reader.join().expect("the reader does not panic");
        got.iter_mut()
            .zip(counts)
            .for_each(|(sum, count)| *sum += count);
    }
    assert_eq!(got, [1000; 256]);
}

/// Tests T115.
#[test]
fn the_bytes_of_a_write_are_contiguous() {
    const WRITES: usize = 2000;
    let (client, server) = block_on(pair());
    // Each writer writes its own number repeatedly, and returns the positions, within its own
    // bytes, at which its writes ended.
    let write = |client: TcpStream, writer: u8| async move {
        let block = [writer; 700];
        let (mut ends, mut written) = (HashSet::from([0]), 0);
        while ends.len() <= WRITES {
            match client.try_write_vectored(&[IoSlice::new(&block), IoSlice::new(&block)]) {
                Ok(length) => {
                    written += length;
                    ends.insert(written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    client.writable().await.expect("the peer is reading");
                }
                Err(error) => panic!("the write failed: {error}"),
            }
        }
        ends
    };
    let writers = [0, 1].map(|writer| {
        let client = client.clone();
        thread::spawn(move || block_on(write(client, writer)))
    });
    drop(client);
    let received = block_on(read_all(&server));
    let ends = writers.map(|writer| writer.join().expect("the writer does not panic"));
    let mut seen = [0; 2];
    for run in received.chunk_by(|a, b| a == b) {
        let writer = usize::from(run[0]);
        seen[writer] += run.len();
        assert!(
            ends[writer].contains(&seen[writer]),
            "a write by writer {writer} was interleaved with another write"
        );
    }
    assert_eq!(
        seen.to_vec(),
        ends.map(|ends| ends
            .into_iter()
            .max()
            .expect("there is at least one writer"))
            .to_vec()
    );
}

#[test]
fn the_socket_is_closed_when_its_last_handle_is_dropped() {
    block_on(async {
        let (stream, mut raw) = raw_pair().await;
        let clone = stream.clone();
        drop(stream);
        raw.write_all(b"still open")
            .expect("the stream is connected");
        assert_eq!(
            read(&clone, &mut [0; 16])
                .await
                .expect("bytes are available"),
            10
        );
        drop(clone);
        assert_eq!(
            raw.read(&mut [0; 16])
                .expect("the peer has closed the stream"),
            0
        );
    });
}

#[test]
fn both_ends_know_both_addresses() {
    block_on(async {
        let (client, server) = pair().await;
        let addresses = |stream: &TcpStream| {
            (
                stream.local_addr().expect("a bound socket has an address"),
                stream.peer_addr().expect("the socket is connected"),
            )
        };
        let (local, peer) = addresses(&client);
        assert_eq!(addresses(&server), (peer, local));
    });
}
