//! Tests functions stored in an S3 bucket on a test server with the same interface as S3.

use super::*;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// The objects in a bucket, by key.
type Bucket = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A server that implements the part of S3's interface that the storage uses.
fn bucket() -> (SocketAddr, Bucket) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let objects: Bucket = Default::default();
    let kept = objects.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("the listener is open"));
            let (request, fields) = head(&mut reader);
            if request.is_empty() {
                continue;
            }
            let length = fields
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next());
            let mut body = vec![
                0;
                length.map_or(0, |length| length
                    .trim()
                    .parse()
                    .expect("the client sends a valid length"))
            ];
            reader.read_exact(&mut body).expect("all the bytes arrive");
            let mut words = request.split(' ');
            let (method, target) = (
                words.next().expect("the request has a method"),
                words.next().expect("the request has a target"),
            );
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let key = path
                .strip_prefix("/bucket")
                .expect("the request is for this bucket")
                .trim_start_matches('/')
                .to_string();
            let mut objects = kept
                .lock()
                .expect("no code panics while it holds this lock");
            let (status, answer) = match method {
                "GET" if query.contains("list-type") => {
                    ("200 OK", listing(&objects, query).into_bytes())
                }
                "GET" | "HEAD" => match objects.get(&key) {
                    Some(object) => ("200 OK", object.clone()),
                    None => ("404 Not Found", Vec::new()),
                },
                "PUT" => {
                    objects.insert(key, body);
                    ("200 OK", Vec::new())
                }
                _ => {
                    objects.remove(&key);
                    ("204 No Content", Vec::new())
                }
            };
            let length = answer.len();
            let head = format!(
                "HTTP/1.1 {status}\r\netag: \"x\"\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            let stream = reader.get_mut();
            // A client may close the connection before it has read everything.
            let _ = stream.write_all(head.as_bytes());
            if method != "HEAD" {
                let _ = stream.write_all(&answer);
            }
        }
    });
    (address, objects)
}

fn listing(objects: &BTreeMap<String, Vec<u8>>, query: &str) -> String {
    let prefix = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("prefix="))
        .unwrap_or_default()
        .replace("%2F", "/");
    let entry = |(key, object): (&String, &Vec<u8>)| {
        format!(
            "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>2026-01-31T12:00:00.000Z</LastModified><ETag>x</ETag></Contents>",
            object.len()
        )
    };
    let contents: String = objects
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(entry)
        .collect();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>")
}

#[test]
fn functions_are_stored_in_s3() {
    let (address, objects) = bucket();
    let options = [
        ("bucket", "bucket"),
        ("region", "here"),
        ("endpoint", &format!("http://{address}")),
        ("access_key_id", "somebody"),
        ("secret_access_key", "hush-hush"),
        ("disable_config_load", "true"),
    ];
    let options = options
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .into();
    let config = ServiceConfig {
        storage: StorageSettings::S3(options),
        ..config()
    };
    assert!(!format!("{config:?}").contains("hush-hush"));
    let house = House::new(config.clone());
    assert_eq!(house.deploy("f", &spark("one")).deployed(), 1);
    assert_eq!(house.deploy("f", &spark("two")).deployed(), 2);
    let keys: Vec<_> = objects
        .lock()
        .expect("no code panics while it holds this lock")
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
    drop(house);
    let house = House::new(config);
    assert_eq!(house.invoke("/f").body, "two");
    assert_eq!(house.ask("DELETE", "/functions/f", &[], b"").status, 200);
    assert!(
        objects
            .lock()
            .expect("no code panics while it holds this lock")
            .is_empty()
    );
}
