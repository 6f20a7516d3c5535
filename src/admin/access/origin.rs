//! Whether a request comes from this device's own pages, as the browser says.
//!
//! `SameSite=Strict` and the token keep other sites from changing anything already; this is the third
//! bar, and the only one that a WebSocket has, which browsers open to any origin.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};

use crate::http::Peer;

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether a change may come from there. Programs that are no browsers send neither header.
pub(super) fn is_own_or_no_page(headers: &HeaderMap, peer: &Peer, public_url: Option<&str>) -> bool {
    let same_site = match headers.get(SEC_FETCH_SITE) {
        Some(site) => site == "same-origin",
        None => true,
    };
    same_site && (!headers.contains_key(ORIGIN) || is_own_page(headers, peer, public_url))
}

/// Whether one of the device's own pages asks.
pub(super) fn is_own_page(headers: &HeaderMap, peer: &Peer, public_url: Option<&str>) -> bool {
    let Some(origin) = only(headers, ORIGIN.as_str()) else { return false };
    let host = only(headers, HOST.as_str());
    let scheme = if peer.tls { "https://" } else { "http://" };
    let here = host.is_some_and(|host| origin.strip_prefix(scheme) == Some(host));
    // Behind a proxy the page has the proxy's origin.
    here || public_url.is_some_and(|url| origin == url)
}

/// The value of a header that stands there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn peer(tls: bool) -> Peer {
        Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls, local: true }
    }

    #[test]
    fn change_comes_from_the_same_origin_or_from_no_browser() {
        for (pairs, tls, expected) in [
            (&[("host", "door.local:8480")][..], true, true),
            (
                &[("host", "door:1"), ("origin", "https://door:1"), ("sec-fetch-site", "same-origin")],
                true,
                true,
            ),
            (&[("host", "door:1"), ("origin", "http://door:1")], false, true),
            (&[("host", "door:1"), ("origin", "http://door:1")], true, false),
            (&[("host", "door:1"), ("origin", "https://door:2")], true, false),
            (&[("host", "door:1"), ("origin", "https://evil")], true, false),
            (&[("host", "door:1"), ("origin", "https://door:1.evil")], true, false),
            (&[("host", "door:1"), ("origin", "null")], true, false),
            (&[("host", "door:1"), ("origin", "https://door:1"), ("origin", "https://evil")], true, false),
            (&[("host", "door:1"), ("sec-fetch-site", "cross-site")], true, false),
            (&[("host", "door:1"), ("sec-fetch-site", "same-site")], true, false),
            (&[("host", "door:1"), ("sec-fetch-site", "none")], true, false),
            (&[("origin", "https://")], true, false),
        ] {
            assert_eq!(is_own_or_no_page(&headers(pairs), &peer(tls), None), expected, "{pairs:?}");
        }
    }

    #[test]
    fn socket_needs_an_origin_and_a_proxy_may_have_its_own() {
        assert!(!is_own_page(&headers(&[("host", "door")]), &peer(true), None));
        assert!(is_own_page(&headers(&[("host", "door"), ("origin", "https://door")]), &peer(true), None));
        let proxied = headers(&[("host", "10.0.0.5:8480"), ("origin", "https://door.example")]);
        assert!(!is_own_page(&proxied, &peer(false), None));
        assert!(is_own_page(&proxied, &peer(false), Some("https://door.example")));
    }
}
