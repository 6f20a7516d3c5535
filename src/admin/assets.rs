//! The pages' own files, inside the program: nothing is read from the disk, so that no path can lead
//! anywhere else, and what the browser runs is what was built.
//!
//! Every file has an address with a hash over all of them, under which it never changes. The one
//! HTML document stands at the address of every page and names that hash.

use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::vault::hex;

/// The files, each by its name.
macro_rules! files {
    ($($name:literal,)+) => {
        &[$(($name, include_bytes!(concat!("assets/", $name))),)+]
    };
}

static FILES: &[(&str, &[u8])] = files![
    "about.js",
    "account.js",
    "api.js",
    "app.js",
    "camera.js",
    "chart.js",
    "dashboard.js",
    "dom.js",
    "door.js",
    "doorwords.js",
    "early.js",
    "enrol.js",
    "errors.js",
    "events.js",
    "eventview.js",
    "faces.js",
    "format.js",
    "frames.js",
    "guide.js",
    "icon.svg",
    "import.js",
    "invitation.js",
    "jobs.js",
    "jobview.js",
    "live.js",
    "overlay.js",
    "pass.js",
    "picker.js",
    "pictures.js",
    "privacy.js",
    "region.js",
    "request-access.js",
    "settings.js",
    "setup.js",
    "sign-in.js",
    "stream.js",
    "style.css",
    "subject.js",
    "ui.js",
    "unknown.js",
    "users.js",
    "verify.js",
    "zip.js",
];
static SHELL: &str = include_str!("assets/index.html");

/// Stands in the document where the address of the files goes.
const PLACEHOLDER: &str = "{assets}";

/// Addresses of pages. Which page it is, the script in the document finds out.
const PAGES: [&str; 21] = [
    "/",
    "/sign-in",
    "/setup",
    "/request-access",
    "/invitation",
    "/faces",
    "/faces/{id}",
    "/enrol",
    "/import",
    "/live",
    "/verify",
    "/unknown",
    "/events",
    "/door",
    "/pass",
    "/settings",
    "/users",
    "/account",
    "/jobs",
    "/privacy",
    "/about",
];

/// What the document may do: load its own files, show pictures and video it made itself, talk to this
/// device, and use the camera. Nothing else, and no text becomes script.
const SHELL_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
    connect-src 'self'; media-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";
const SHELL_PERMISSIONS: &str =
    "camera=(self), microphone=(), geolocation=(), display-capture=(), payment=(), usb=()";
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// A file as it is sent.
struct Packed {
    name: &'static str,
    media_type: &'static str,
    plain: Bytes,
    gzip: Bytes,
}

/// All files, compressed once.
struct Bundle {
    hash: String,
    files: Vec<Packed>,
    shell: Packed,
    shell_tag: String,
}

static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| Bundle::new(FILES, SHELL));

impl Bundle {
    fn new(files: &'static [(&'static str, &'static [u8])], shell: &str) -> Self {
        let mut digest = Sha256::new();
        for (name, bytes) in files {
            // With their lengths, so that no two bundles are hashed from the same bytes.
            for part in [name.as_bytes(), bytes] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
        let hash = short(&digest.finalize());
        let shell = shell.replace(PLACEHOLDER, &format!("/assets/{hash}"));
        let shell_tag = format!("\"{}\"", short(&Sha256::digest(shell.as_bytes())));
        let files = files.iter().map(|(name, bytes)| Packed::new(name, Bytes::from_static(bytes))).collect();
        Self { hash, files, shell: Packed::new("index.html", shell.into()), shell_tag }
    }
}

impl Packed {
    fn new(name: &'static str, plain: Bytes) -> Self {
        let media_type = match name.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let written = encoder.write_all(&plain).and_then(|()| encoder.finish());
        let gzip = written.expect("memory takes every write").into();
        Self { name, media_type, plain, gzip }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let vary = (VARY, HeaderValue::from_static("Accept-Encoding"));
        let media_type = (CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        if takes_gzip(headers) {
            let encoding = (CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            ([vary, media_type, encoding], self.gzip.clone()).into_response()
        } else {
            ([vary, media_type], self.plain.clone()).into_response()
        }
    }
}

fn short(digest: &[u8]) -> String {
    hex(&digest[..8])
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| {
        let (coding, quality) = item.split_once(';').unwrap_or((item, ""));
        let refused = quality.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        coding.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// The pages and their files. Open to anybody: they hold nothing of this device.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    // Compressed now and not while the first asker waits.
    LazyLock::force(&BUNDLE);
    let pages = PAGES.into_iter().fold(Router::new(), |router, page| router.route(page, get(shell)));
    pages.route("/assets/{hash}/{file}", get(file))
}

async fn shell(headers: HeaderMap) -> Response {
    document(StatusCode::OK, &headers)
}

fn document(status: StatusCode, headers: &HeaderMap) -> Response {
    let tag = BUNDLE.shell_tag.as_str();
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag));
    let mut answer = if known && status == StatusCode::OK {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        (status, BUNDLE.shell.answer(headers)).into_response()
    };
    let own = [
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(SHELL_POLICY)),
        (PERMISSIONS_POLICY, HeaderValue::from_static(SHELL_PERMISSIONS)),
        (ETAG, HeaderValue::from_static(tag)),
    ];
    answer.headers_mut().extend(own);
    answer
}

async fn file(Path((hash, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let found = BUNDLE.files.iter().find(|file| file.name == name).filter(|_| hash == BUNDLE.hash);
    let Some(file) = found else {
        // After an update the page that is still open asks for what is no longer there.
        return Problem::missing("file").into_response();
    };
    let mut answer = file.answer(&headers);
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    answer.headers_mut().insert(CACHE_CONTROL, forever);
    answer
}

/// What is nowhere: the document says so to people, JSON to programs.
pub(super) async fn nowhere(request: Request) -> Response {
    let headers = request.headers();
    let person =
        headers.get(ACCEPT).and_then(|types| types.to_str().ok()).is_some_and(|t| t.contains("text/html"));
    if person && !request.uri().path().starts_with("/api/") {
        document(StatusCode::NOT_FOUND, headers)
    } else {
        Problem::missing("page").into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Read;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/assets");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "index.html")
            .collect();
        let served: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(there, served);
    }

    #[test]
    fn document_names_files_that_are_there_and_nothing_outside() {
        let shell = std::str::from_utf8(&BUNDLE.shell.plain).unwrap();
        assert!(!shell.contains(PLACEHOLDER));
        let base = format!("/assets/{}/", BUNDLE.hash);
        let named: Vec<_> = shell.split(&base).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(named.len() >= 3, "{named:?}");
        for name in named {
            assert!(FILES.iter().any(|(file, _)| *file == name), "{name}");
        }
        assert!(!shell.contains("http://") && !shell.contains("https://"), "loaded from elsewhere");
        assert!(!shell.contains("<style") && !shell.contains(" style=") && !shell.contains(" on"), "inline");
    }

    #[test]
    fn hash_changes_with_any_file() {
        let one = Bundle::new(&[("a.js", b"1"), ("b.js", b"2")], "{assets}");
        for other in
            [&[("a.js", &b"1"[..]), ("b.js", b"3")][..], &[("a.js", b"12"), ("b.js", b"")], &[("a.js", b"1")]]
        {
            let other = Bundle::new(Box::leak(other.to_vec().into_boxed_slice()), "{assets}");
            assert_ne!(one.hash, other.hash);
            assert_ne!(one.shell_tag, other.shell_tag);
        }
    }

    #[test]
    fn compressed_files_are_the_same_files() {
        for file in BUNDLE.files.iter().chain([&BUNDLE.shell]) {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&file.gzip[..]).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, file.plain, "{}", file.name);
        }
        let sizes: usize = BUNDLE.files.iter().map(|file| file.gzip.len()).sum();
        assert!(sizes + BUNDLE.shell.gzip.len() < 150 << 10, "{sizes}");
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let takes = |value: &str| {
            takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap())]))
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("deflate,gzip;q=1.0"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("") && !takes("xgzip"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
