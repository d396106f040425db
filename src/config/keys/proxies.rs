//! The keys of what stands in front of the gateway.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::catalogue::Shape;
use crate::config::reader::Section;
use crate::config::settings::{ForwardedHeader, ProxiesConfig};
use crate::config::units::Reason;

pub(super) fn proxies(s: &mut Section<'_, '_>) -> ProxiesConfig {
    let shape = Shape {
        kind: "list",
        default: "none: every client is where its connection comes from".into(),
        range: "such as `10.0.0.0/8`, `192.0.2.7` or `fd00::/8`".into(),
        doc: "Addresses of the proxies and balancers in front, whose word is taken for where a client is. \
              Anybody else's is passed over. Which `Host` and `Origin` are allowed never depends on it.",
    };
    let trusted = s.several("trusted_proxies", shape, network).unwrap_or_default();
    let protocol = s.switch(
        "proxy_protocol",
        false,
        "`on`: each connection from `trusted_proxies` begins with a PROXY header (version 1 or 2), before any \
         TLS, or is closed. Connections from elsewhere have none, and are served as ever.",
    );
    let header = s.choice(
        "forwarded_header",
        &[
            ("none", ForwardedHeader::None),
            ("x-forwarded-for", ForwardedHeader::XForwardedFor),
            ("forwarded", ForwardedHeader::Forwarded),
        ],
        ForwardedHeader::XForwardedFor,
        "The header in which `trusted_proxies` say where a client is: the one that they set or add to, because \
         what they pass on of another is whatever the client wrote. Read from its end, as far as each address \
         is trusted.",
    );
    if trusted.is_empty() && protocol {
        s.fault(&["proxy_protocol"], "nobody is asked for it: http.trusted_proxies has none");
    }
    ProxiesConfig { trusted, protocol, header }
}

fn network(text: &str) -> Result<IpNet, Reason> {
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| Reason::Borrowed("is neither an address nor a network"))?;
    if net.trunc() == net { Ok(net) } else { Err("has bits beyond its prefix".into()) }
}
