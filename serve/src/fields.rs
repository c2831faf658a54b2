//! Header fields that determine where a message ends, and fields that concern only a single
//! connection.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

/// Fields that concern only a single connection and are not forwarded to functions, clients or
/// other hosts.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Fields that are forwarded even if `connection` lists them. Without them, the message would end
/// in a different place or have a different recipient.
static END_TO_END: [HeaderName; 2] = [CONTENT_LENGTH, HOST];

/// Removes the fields that concern only a single connection, including those listed in
/// `connection`.
pub(crate) fn remove_hop_by_hop(fields: &mut HeaderMap) {
    if !fields.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let listed: Vec<HeaderName> = words(fields, &CONNECTION)
        .filter_map(|name| name.parse().ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    for name in HOP_BY_HOP.iter().chain(&listed) {
        fields.remove(name);
    }
}

/// Returns the words in a comma-separated field.
pub(crate) fn words<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    fields
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Why the length of a body cannot be determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LengthError {
    NotANumber,
    /// There are several lengths that differ.
    Several,
}

/// Returns the body length stated by `content-length`.
pub(crate) fn length(fields: &HeaderMap) -> Result<Option<u64>, LengthError> {
    let mut values = fields.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.any(|other| other != value) {
        return Err(LengthError::Several);
    }
    parse_length(value.as_bytes())
        .map(Some)
        .ok_or(LengthError::NotANumber)
}

/// Parses the value of a `content-length` field, which must consist only of digits.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().expect("the name is valid");
            fields.append(name, value.parse().expect("the value is valid"));
        }
        fields
    }

    #[test]
    fn t138_hop_by_hop_fields_and_fields_listed_in_connection_are_removed() {
        let mut map = fields(&[
            ("accept", "*/*"),
            ("connection", "keep-alive, X-Listed"),
            ("connection", "close,x-other ,not a name"),
            ("http2-settings", "AAMAAABk"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic eDp5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-listed", "1"),
            ("x-other", "2"),
            ("x-kept", "3"),
        ]);
        remove_hop_by_hop(&mut map);
        assert_eq!(map, fields(&[("accept", "*/*"), ("x-kept", "3")]));
    }

    #[test]
    fn t138_connection_cannot_remove_the_length_or_the_host() {
        let mut map = fields(&[
            ("connection", "content-length, Host, transfer-encoding"),
            ("content-length", "5"),
            ("host", "a"),
        ]);
        remove_hop_by_hop(&mut map);
        assert_eq!(map, fields(&[("content-length", "5"), ("host", "a")]));
    }

    #[test]
    fn a_length_consists_of_digits() {
        assert_eq!(length(&fields(&[])), Ok(None));
        for value in ["0", "007", "18446744073709551615"] {
            assert_eq!(
                length(&fields(&[("content-length", value)])),
                Ok(value.parse().ok())
            );
        }
        for value in ["", "+5", "-1", "0x5", "5, 5", "1 2", "18446744073709551616"] {
            assert_eq!(
                length(&fields(&[("content-length", value)])),
                Err(LengthError::NotANumber),
                "{value}"
            );
        }
        let [same, other] =
            ["5", "6"].map(|second| fields(&[("content-length", "5"), ("content-length", second)]));
        assert_eq!(length(&same), Ok(Some(5)));
        assert_eq!(length(&other), Err(LengthError::Several));
    }
}
