//! Whom functions may call over HTTP.

/// Hosts that may be called: `example.com`, `*.example.com`, with `:port` for one port, `http://` or `https://` for one scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundRule(String);

/// What a function may call, and the connections that are kept to it.
#[derive(Debug)]
pub struct Outbound {
    rules: Vec<OutboundRule>,
    private_addresses: bool,
}

impl Outbound {
    /// Allows what the rules allow; without a rule, nothing.
    pub fn new(rules: &[OutboundRule], private_addresses: bool) -> Outbound {
        Outbound { rules: rules.to_vec(), private_addresses }
    }
}
