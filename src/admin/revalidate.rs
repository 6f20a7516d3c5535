//! Answers that a browser may keep and has to ask about each time: a tag made of what is answered, and
//! nothing but a status for whoever has that already. Since it has to ask, the access check stands in front
//! of it each time, and what was erased, or is no longer for them, is not shown from a cache.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::Problem;

/// Far above the longest list.
const LONGEST: usize = 16 << 20;
/// Bytes of the hash that make a tag.
const TAG: usize = 16;

/// The middleware around what is [`revalidated`](super::operation::Operation::revalidated).
pub(super) async fn revalidate(request: Request, next: Next) -> Response {
    let known = request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect::<Vec<_>>();
    let answer = next.run(request).await;
    if answer.status() != StatusCode::OK {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let bytes = match to_bytes(body, LONGEST).await {
        Ok(bytes) => bytes,
        Err(error) => return Problem::failed("making an answer", &error).into_response(),
    };
    let tag = format!("\"{}\"", crate::litert::hex(&Sha256::digest(&bytes)[..TAG]));
    let has_it = known.iter().any(|tags| names(tags, &tag));
    let mut caching = HeaderMap::new();
    caching.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        caching.insert(ETAG, tag);
    }
    if has_it {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    head.headers.extend(caching);
    Response::from_parts(head, Body::from(bytes))
}

/// Whether a list of tags holds this one (RFC 9110, 13.1.2: compared weakly).
fn names(tags: &HeaderValue, tag: &str) -> bool {
    let Ok(tags) = tags.to_str() else { return false };
    tags.split(',')
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_is_found_in_a_list_and_nothing_else_is_taken_for_it() {
        for known in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(names(&HeaderValue::from_static(known), "\"a\""), "{known}");
        }
        for other in ["", "a", "\"b\"", "\"ab\"", "\"A\""] {
            assert!(!names(&HeaderValue::from_static(other), "\"a\""), "{other}");
        }
    }
}
