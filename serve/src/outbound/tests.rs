//! Calls to servers on this computer. Their names resolve to addresses that the tests choose.

use super::*;
use crate::body::empty;
use http::StatusCode;
use http_body_util::{Full, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Runs a test on the runtime that drives calls.
fn run<T>(test: impl Future<Output = T>) -> T {
    runtime().expect("a thread can be started").block_on(test)
}

fn get(uri: impl AsRef<str>) -> Request<Body> {
    Request::get(uri.as_ref())
        .body(empty())
        .expect("the request is valid")
}

/// Resolves names to the given addresses, one answer after another. The last answer is repeated.
fn leading_to(answers: &[&[&str]]) -> (LookUp, Arc<AtomicUsize>) {
    let answers: Vec<Vec<IpAddr>> = answers
        .iter()
        .map(|all| {
            all.iter()
                .map(|address| address.parse().expect("the address is valid"))
                .collect()
        })
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let look_up = LookUp::within(Duration::from_secs(60), move |_| {
        let answer = counted
            .fetch_add(1, Ordering::SeqCst)
            .min(answers.len() - 1);
        let answer = answers[answer].clone();
        Box::pin(async { Ok(answer) })
    });
    (look_up, asked)
}

fn rules(rules: &[&str]) -> Vec<OutboundRule> {
    rules
        .iter()
        .map(|rule| rule.parse().expect("the rule is valid"))
        .collect()
}

fn outbound(allowed: &[&str], private_addresses: bool, answers: &[&[&str]]) -> Outbound {
    Outbound::with(
        &rules(allowed),
        private_addresses,
        leading_to(answers).0,
        None,
    )
}

/// Starts a server that answers all requests the same way and counts its connections.
async fn server<F, A>(answer: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                // A client that disconnects causes an error here. Some tests disconnect on purpose.
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (address, connections)
}

fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

async fn read(answer: Response<Body>) -> String {
    let bytes = answer
        .into_body()
        .collect()
        .await
        .expect("the body is complete")
        .to_bytes();
    String::from_utf8(bytes.to_vec()).expect("the body is UTF-8")
}

#[test]
fn a_host_that_no_rule_names_is_not_even_looked_up() {
    let (look_up, asked) = leading_to(&[&["127.0.0.1"]]);
    let outbound = Outbound::with(&rules(&["https://example.com"]), true, look_up, None);
    for uri in [
        "http://example.com/",
        "https://example.org/",
        "https://127.0.0.1/",
    ] {
        let error = run(outbound.send(get(uri))).expect_err("the call is not allowed");
        assert!(matches!(error, OutboundError::NotAllowed(_)), "{error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn without_a_rule_no_host_is_called() {
    let error = run(Outbound::new(&[], true).send(get("http://127.0.0.1/")))
        .expect_err("the call is not allowed");
    assert!(matches!(error, OutboundError::NotAllowed(_)), "{error}");
}

#[test]
fn t116_a_name_that_leads_into_a_private_network_is_refused() {
    for (address, is_private) in [
        ("127.0.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("169.254.169.254", false),
    ] {
        let outbound = outbound(&["*"], false, &[&[address]]);
        let error = run(outbound.send(get("http://example.com/")))
            .expect_err("the name leads into a private network");
        let OutboundError::Prohibited {
            is_private: told, ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(told, is_private, "{address}");
    }
    // The same goes for an address instead of a name.
    let error = run(Outbound::new(&rules(&["*"]), false).send(get("http://[::ffff:127.0.0.1]/")));
    assert!(
        matches!(
            error,
            Err(OutboundError::Prohibited {
                is_private: true,
                ..
            })
        ),
        "{error:?}"
    );
}

#[test]
fn t116_metadata_addresses_are_refused_even_if_private_addresses_are_allowed() {
    let outbound = outbound(&["*"], true, &[&["169.254.169.254", "fd00:ec2::254"]]);
    let error = run(outbound.send(get("http://example.com/")))
        .expect_err("the address may never be called");
    assert!(
        matches!(
            error,
            OutboundError::Prohibited {
                is_private: false,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn t116_a_connection_goes_to_the_address_that_was_checked() {
    run(async {
        let (server, connections) = server(|_| async { text("inside") }).await;
        // A name's owner could return this answer after the first one has passed the check.
        let outbound = outbound(&["*"], false, &[&["192.0.2.1"], &["127.0.0.1"]]);
        for _ in 0..2 {
            let error = outbound
                .send(get(format!("http://example.com:{}/", server.port())))
                .await;
            assert!(
                matches!(error, Err(OutboundError::Prohibited { .. })),
                "{error:?}"
            );
        }
        assert_eq!(connections.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn t116_only_the_allowed_addresses_of_a_name_are_tried() {
    run(async {
        let (server, _) = server(|_| async { text("here") }).await;
        let outbound = outbound(&["*"], true, &[&["169.254.169.254", "127.0.0.1"]]);
        let answer = outbound
            .send(get(format!("http://example.com:{}/", server.port())))
            .await
            .expect("one of the addresses answers");
        assert_eq!(read(answer).await, "here");
    });
}

#[test]
fn t116_a_redirect_is_a_response_and_causes_no_further_call() {
    run(async {
        let (server, connections) = server(|_| async {
            let mut answer = text("elsewhere");
            *answer.status_mut() = StatusCode::FOUND;
            answer.headers_mut().insert(
                header::LOCATION,
                "http://10.0.0.1/".parse().expect("the field is valid"),
            );
            answer
        })
        .await;
        let outbound = outbound(&["*"], true, &[&["127.0.0.1"]]);
        let answer = outbound
            .send(get(format!("http://example.com:{}/", server.port())))
            .await
            .expect("the server answers");
        assert_eq!(answer.status(), StatusCode::FOUND);
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn t119_a_lookup_that_takes_too_long_is_abandoned() {
    run(async {
        let never = LookUp::within(Duration::from_millis(1), |_| {
            Box::pin(std::future::pending())
        });
        let outbound = Outbound::with(&rules(&["*"]), true, never, None);
        let error = outbound
            .send(get("http://example.com/"))
            .await
            .expect_err("no server answers");
        assert!(matches!(error, OutboundError::NameTime(..)), "{error}");
    });
}

#[test]
fn t119_only_a_few_of_very_many_addresses_are_considered() {
    run(async {
        let many = LookUp::within(Duration::from_secs(60), |_| {
            Box::pin(async {
                Ok((0..10_000)
                    .map(|number| Ipv4Addr::from(0x0a00_0000 + number).into())
                    .collect())
            })
        });
        let destination = Destination::of(&Uri::from_static("http://example.com/"))
            .expect("the URI has a destination");
        let addresses = Connector::new(true, many, None)
            .addresses(&destination)
            .await
            .expect("the addresses may be called");
        assert_eq!(addresses.len(), 64);
    });
}

#[test]
fn a_name_without_an_address_is_reported() {
    let no_such_host = || io::Error::other("no such host");
    let nobody = LookUp::within(Duration::from_secs(60), move |_| {
        Box::pin(async move { Err(no_such_host()) })
    });
    let outbound = Outbound::with(&rules(&["*"]), true, nobody, None);
    let error = run(outbound.send(get("http://example.com/"))).expect_err("the host is not found");
    assert_eq!(
        error.to_string(),
        "the host `example.com` was not found: no such host"
    );
}

#[test]
fn t141_a_thousand_calls_to_one_host_need_only_a_few_connections() {
    run(async {
        let (server, connections) = server(|_| async { text("again") }).await;
        let outbound = outbound(&["*"], true, &[&["127.0.0.1"]]);
        for _ in 0..1000 {
            let answer = outbound
                .send(get(format!("http://example.com:{}/", server.port())))
                .await;
            assert_eq!(read(answer.expect("the server answers")).await, "again");
        }
        // There is one connection, plus any that were returned to the pool a moment too late.
        let connections = connections.load(Ordering::SeqCst);
        assert!(connections < 20, "{connections} connections");
    });
}

#[test]
fn t120_a_function_that_holds_all_its_calls_gets_an_error_and_does_not_hang() {
    run(async {
        let (server, _) = server(|_| async { text("held") }).await;
        let outbound = outbound(&["*"], true, &[&["127.0.0.1"]]);
        let uri = format!("http://example.com:{}/", server.port());
        let mut held = Vec::new();
        for _ in 0..CALLS {
            held.push(
                outbound
                    .send(get(&uri))
                    .await
                    .expect("the limit is not reached"),
            );
        }
        let soon = Times {
            connect: Duration::from_millis(1),
            ..Times::default()
        };
        let error = outbound
            .send_within(get(&uri), soon)
            .await
            .expect_err("no further calls are permitted");
        assert!(matches!(error, OutboundError::Busy(_)), "{error}");
        held.pop();
        outbound
            .send(get(&uri))
            .await
            .expect("a call has ended, so another one is permitted");
    });
}

#[test]
fn idle_connections_make_room_for_other_hosts() {
    run(async {
        let (server, _) = server(|_| async { text("one of many") }).await;
        let outbound = outbound(&["*.example.com"], true, &[&["127.0.0.1"]]);
        for number in 0..connector::CONNECTIONS + 8 {
            let uri = format!("http://{number}.example.com:{}/", server.port());
            read(
                outbound
                    .send(get(uri))
                    .await
                    .expect("an idle connection is closed"),
            )
            .await;
        }
    });
}

#[test]
fn a_silent_server_is_abandoned_after_the_timeout() {
    run(async {
        let (server, _) = server(|request: Request<Incoming>| async move {
            if request.uri().path() == "/never" {
                std::future::pending::<()>().await;
            }
            let begun = futures_lite::stream::once(Ok::<_, BodyError>(Frame::data(
                Bytes::from_static(b"begun"),
            )));
            let silent = futures_lite::stream::pending();
            Response::new(
                StreamBody::new(futures_lite::StreamExt::chain(begun, silent)).boxed_unsync(),
            )
        })
        .await;
        let outbound = outbound(&["*"], true, &[&["127.0.0.1"]]);
        let soon = Duration::from_millis(20);
        let uri = |path: &str| format!("http://example.com:{}{path}", server.port());
        let times = Times {
            first_byte: soon,
            ..Times::default()
        };
        let error = outbound
            .send_within(get(uri("/never")), times)
            .await
            .expect_err("no server answers");
        assert!(
            matches!(error, OutboundError::Time(_, time) if time == soon),
            "{error}"
        );
        let times = Times {
            between_bytes: soon,
            ..Times::default()
        };
        let answer = outbound
            .send_within(get(uri("/")), times)
            .await
            .expect("the response begins");
        let error = answer
            .into_body()
            .collect()
            .await
            .expect_err("the response does not continue")
            .to_string();
        assert!(error.contains("no more of the response arrived"), "{error}");
    });
}

#[test]
fn bodies_are_streamed_in_both_directions_with_back_pressure() {
    run(async {
        let (server, _) = server(|request: Request<Incoming>| async move {
            Response::new(request.into_body().map_err(BodyError::from).boxed_unsync())
        })
        .await;
        let outbound = outbound(&["*"], true, &[&["127.0.0.1"]]);
        let (pieces, mut queue) = mpsc::channel::<Bytes>(1);
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let body = futures_lite::stream::poll_fn(move |context| {
            let piece = std::task::ready!(queue.poll_recv(context));
            counted.fetch_add(piece.as_ref().map_or(0, Bytes::len), Ordering::SeqCst);
            Poll::Ready(piece.map(|piece| Ok::<_, BodyError>(Frame::data(piece))))
        });
        let request = Request::post(format!("http://example.com:{}/", server.port()))
            .body(StreamBody::new(body).boxed_unsync())
            .expect("the request is valid");
        let answer = outbound
            .send(request)
            .await
            .expect("the server answers before the request is complete");
        let mut body = answer.into_body();
        pieces
            .send(Bytes::from_static(b"ping"))
            .await
            .expect("the body is being read");
        let frame = body
            .frame()
            .await
            .expect("the response continues")
            .expect("the body is complete");
        assert_eq!(frame.into_data().expect("the frame is data"), "ping");

        // Nothing reads any more, so the writer fills the buffers in between and then waits.
        let piece = Bytes::from(vec![7; 1 << 16]);
        let total = 1 << 12;
        let writer = tokio::spawn(async move {
            for _ in 0..total {
                pieces
                    .send(piece.clone())
                    .await
                    .expect("the body is being read");
            }
        });
        let (mut before, mut still) = (0, 0);
        while still < 10_000 {
            tokio::task::yield_now().await;
            let now = sent.load(Ordering::SeqCst);
            still = if now == before { still + 1 } else { 0 };
            before = now;
        }
        assert!(before < total << 16, "{before} bytes were sent unread");
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            received += frame
                .expect("the body is complete")
                .into_data()
                .expect("the frame is data")
                .len();
        }
        writer.await.expect("the writer wrote everything");
        assert_eq!(received, total << 16);
    });
}

#[test]
fn hop_by_hop_fields_and_a_forged_host_are_removed() {
    run(async {
        let (server, _) = server(|request: Request<Incoming>| async move {
            let mut answer = text(format!("{:?}", request.headers()));
            answer.headers_mut().insert(
                "keep-alive",
                "timeout=1".parse().expect("the field is valid"),
            );
            answer
                .headers_mut()
                .insert("x-kept", "1".parse().expect("the field is valid"));
            answer
        })
        .await;
        let outbound = outbound(&["*"], true, &[&["127.0.0.1"]]);
        let request = Request::get(format!("http://EXAMPLE.com.:{}", server.port()))
            .header("host", "internal.example.org")
            .header("connection", "x-private, close")
            .header("x-private", "1")
            .header("proxy-authorization", "secret")
            .header("x-kept", "1")
            .body(empty())
            .expect("the request is valid");
        let answer = outbound.send(request).await.expect("the server answers");
        assert!(
            !answer.headers().contains_key("keep-alive") && answer.headers().contains_key("x-kept")
        );
        let seen = read(answer).await;
        assert_eq!(
            seen,
            format!(
                r#"{{"x-kept": "1", "host": "example.com:{}"}}"#,
                server.port()
            )
        );
    });
}

#[test]
fn t138_connection_cannot_remove_the_length_of_a_call_or_its_response() {
    run(async {
        let connection: header::HeaderValue = "content-length, host, transfer-encoding"
            .parse()
            .expect("the field is valid");
        let listed = connection.clone();
        let (server, _) = server(move |request: Request<Incoming>| {
            let mut answer = text(format!("{:?}", request.headers()));
            answer
                .headers_mut()
                .insert(header::CONNECTION, listed.clone());
            async { answer }
        })
        .await;
        let outbound = outbound(&["*"], true, &[&["127.0.0.1"]]);
        // The length of this body is known only from `content-length`.
        let pieces = futures_lite::stream::once(Ok(Frame::data(Bytes::from_static(b"hello"))));
        let request = Request::post(format!("http://example.com:{}/", server.port()))
            .header(header::CONNECTION, connection)
            .header(header::CONTENT_LENGTH, 5)
            .body(StreamBody::new(pieces).boxed_unsync())
            .expect("the request is valid");
        let answer = outbound.send(request).await.expect("the server answers");
        let length = answer.headers().get(header::CONTENT_LENGTH).cloned();
        let seen = read(answer).await;
        assert_eq!(
            seen,
            format!(
                r#"{{"content-length": "5", "host": "example.com:{}"}}"#,
                server.port()
            )
        );
        assert_eq!(length, Some(seen.len().into()));
    });
}

#[test]
fn t118_a_certificate_from_an_untrusted_authority_ends_the_call() {
    run(async {
        let made = rcgen::generate_simple_self_signed(["example.com".into()])
            .expect("the certificate can be generated");
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .expect("the key can be parsed");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports these TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("the key matches the certificate");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port is free");
        let port = listener.local_addr().expect("the listener is bound").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(|request: Request<Incoming>| async move {
                        Ok::<_, Infallible>(text(format!("{:?}", request.version())))
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let (look_up, _) = leading_to(&[&["127.0.0.1"]]);
        let uri = format!("https://example.com:{port}/");
        let stranger = Outbound::with(&rules(&["*"]), true, look_up.clone(), None);
        let error = stranger
            .send(get(&uri))
            .await
            .expect_err("the certificate is not trusted");
        assert!(matches!(error, OutboundError::Tls(_)), "{error}");

        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(made.cert.der().clone())
            .expect("the certificate can be a root");
        let trust = connector::trusting(roots);
        let friend = Outbound::with(&rules(&["*"]), true, look_up.clone(), Some(trust.clone()));
        assert_eq!(
            read(
                friend
                    .send(get(&uri))
                    .await
                    .expect("the certificate is trusted")
            )
            .await,
            "HTTP/2.0"
        );
        let error = Outbound::with(&rules(&["*"]), true, look_up, Some(trust))
            .send(get(format!("https://example.org:{port}/")))
            .await
            .expect_err("the certificate is for another host");
        assert!(matches!(error, OutboundError::Tls(_)), "{error}");
    });
}

#[test]
fn abandoning_a_call_ends_it() {
    run(async {
        let (gone, mut is_gone) = mpsc::channel::<()>(1);
        let (server, _) = server(move |_| {
            let gone = gone.clone();
            async move {
                gone.send(()).await.expect("the test waits");
                std::future::pending().await
            }
        })
        .await;
        let outbound = outbound(&["*"], true, &[&["127.0.0.1"]]);
        let calling = outbound.send(get(format!("http://example.com:{}/", server.port())));
        tokio::select! {
            answered = calling => panic!("unexpected response: {answered:?}"),
            _ = is_gone.recv() => {}
        }
        // The server side is dropped along with the connection, and the permit is returned
        // immediately.
        while outbound.calls.available_permits() < CALLS {
            tokio::task::yield_now().await;
        }
    });
}
