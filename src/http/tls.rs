//! Encryption of the web server: which certificate is shown, and when it is looked at anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ServerConfig};

use super::certificate::{CERTIFICATE_FILE, Certificate, fingerprint, names};
use super::host_name;
use crate::clock::Clock;
use crate::config;
use crate::mqtt::secrets::{SecretError, read_private, read_public};
use crate::vault::{StateFolder, VaultError};

/// Why there can be no encrypted connections.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The own file cannot be made.
    #[error(transparent)]
    State(#[from] VaultError),
    /// The own file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Make(String),
    /// A file is not what it should be.
    #[error("{} holds no {what} in PEM form; look at {setting}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
        /// Where it is named.
        setting: &'static str,
    },
    /// They do not fit together.
    #[error("certificate and key do not go together: {0}; look at http.certificate_file and http.key_file")]
    Set(#[from] rustls::Error),
}

enum Source {
    /// Made here.
    Own { state: StateFolder, public_host: Option<String> },
    /// Given by the operator, who renews it.
    Given { certificate: PathBuf, key: PathBuf },
}

struct Current {
    config: Arc<ServerConfig>,
    fingerprint: String,
}

/// The certificate in use. Shared by the server and whoever shows its fingerprint.
pub(crate) struct Tls {
    source: Source,
    current: ArcSwapOption<Current>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

impl Tls {
    /// Nothing is read before [`load`](Self::load).
    pub(crate) fn new(http: &config::Http, state: &StateFolder, clock: Arc<dyn Clock>) -> Self {
        let source = match (&http.certificate_file, &http.key_file) {
            (Some(certificate), Some(key)) => {
                Source::Given { certificate: certificate.clone(), key: key.clone() }
            }
            _ => Source::Own {
                state: state.clone(),
                public_host: http.public_url.as_deref().and_then(host_of).map(str::to_owned),
            },
        };
        Self { source, current: ArcSwapOption::empty(), clock }
    }

    /// Reads the certificate anew, making or renewing the device's own. Blocking.
    pub(crate) fn load(&self) -> Result<(), TlsError> {
        let (chain, key) = match &self.source {
            Source::Own { state, public_host } => {
                let names = names(&host_name(), public_host.as_deref());
                let own = Certificate::load_or_make(state, &names, self.clock.wall())?;
                (own.chain, own.key)
            }
            Source::Given { certificate, key } => (chain(certificate)?, private_key(key)?),
        };
        let fingerprint = fingerprint(&chain[0]);
        let known = self.current.load();
        if known.as_ref().is_some_and(|known| known.fingerprint == fingerprint) {
            return Ok(());
        }
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        tracing::info!(%fingerprint, "certificate of the web server (SHA-256)");
        self.current.store(Some(Arc::new(Current { config: Arc::new(config), fingerprint })));
        Ok(())
    }

    /// Takes connections in; `None` until a certificate is loaded.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.current.load().as_ref().map(|current| TlsAcceptor::from(Arc::clone(&current.config)))
    }

    /// SHA-256 of the certificate in use, as browsers show it.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        self.current.load().as_ref().map(|current| current.fingerprint.clone())
    }
}

/// The fingerprint of the certificate that a daemon with this configuration shows, once it has made
/// one.
pub fn stored_fingerprint(config: &config::Config) -> Option<String> {
    let path =
        config.http.certificate_file.clone().unwrap_or_else(|| config.state.folder.join(CERTIFICATE_FILE));
    chain(&path).ok()?.first().map(fingerprint)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let setting = "http.certificate_file";
    let pem = read_public(path, "look at http.certificate_file")?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Pem { path: path.into(), what: "certificate", setting }),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let setting = "http.key_file";
    let pem = read_private(path, "look at http.key_file")?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::Pem {
        path: path.into(),
        what: "private key without a pass phrase",
        setting,
    })
}

/// The host in an address such as `https://door.local:8480/`.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split('/').next()?;
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => authority.split(':').next(),
    }
    .filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_found_in_a_public_address() {
        for (url, host) in [
            ("https://door.local:8480", Some("door.local")),
            ("http://door", Some("door")),
            ("https://[2001:db8::7]:8480/", Some("2001:db8::7")),
            ("https://", None),
            ("door", None),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }

    #[test]
    fn given_files_that_do_not_fit_name_their_settings() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
        let own = Tls::new(&config::Http::default(), &state, Arc::clone(&clock));
        own.load().unwrap();
        let text = folder.path().join("text.pem");
        std::fs::write(&text, "hello").unwrap();
        std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let own_file = state.path().join(CERTIFICATE_FILE);
        let missing = folder.path().join("missing.pem");
        for (certificate, key, said) in [
            (&text, &own_file, "http.certificate_file"),
            (&missing, &own_file, "http.certificate_file"),
            (&own_file, &text, "http.key_file"),
        ] {
            let http = config::Http {
                certificate_file: Some(certificate.clone()),
                key_file: Some(key.clone()),
                ..config::Http::default()
            };
            let tls = Tls::new(&http, &state, Arc::clone(&clock));
            let words = tls.load().unwrap_err().to_string();
            assert!(words.contains(said), "{words}");
            assert!(tls.acceptor().is_none());
        }
        let http = config::Http {
            certificate_file: Some(own_file.clone()),
            key_file: Some(own_file),
            ..config::Http::default()
        };
        let given = Tls::new(&http, &state, clock);
        given.load().unwrap();
        assert_eq!(given.fingerprint(), own.fingerprint());
    }
}
