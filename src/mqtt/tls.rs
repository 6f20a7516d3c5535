//! The whole of the encryption's configuration: authorities, client certificate, algorithms.
//!
//! Made here in full and handed to the client as it is, so that only rustls reads and checks
//! certificates. Blocking: reads files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::secrets::{SecretError, read_private, read_public};
use super::settings::TlsFiles;

/// Why there can be no encrypted connection.
#[derive(Debug, Error)]
pub(super) enum TlsError {
    #[error(transparent)]
    File(#[from] SecretError),
    #[error("{} holds no {what} in PEM form; {remedy}", path.display())]
    Pem { path: PathBuf, what: &'static str, remedy: &'static str },
    #[error(
        "this system has no certificate authorities; install them (package ca-certificates), or set mqtt.ca_file"
    )]
    NoAuthorities,
    #[error(
        "the client certificate in {} and the key in {} do not go together: {source}; give a certificate and the \
         key it was made with", certificate.display(), key.display()
    )]
    Client { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("the encryption cannot be set up: {0}")]
    Set(#[from] rustls::Error),
}

/// Reads the files and puts the configuration together.
pub(super) fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match &files.authorities {
        Some(path) => {
            for certificate in certificates(path, "look at mqtt.ca_file")? {
                roots.add(certificate).map_err(|_| TlsError::Pem {
                    path: path.clone(),
                    what: "usable certificate of an authority",
                    remedy: "look at mqtt.ca_file",
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoAuthorities);
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match &files.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "look at mqtt.client_certificate_file")?;
            let pem = read_private(key, "look at mqtt.client_key_file")?;
            let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::Pem {
                path: key.clone(),
                what: "private key without a pass phrase",
                remedy: "look at mqtt.client_key_file",
            })?;
            builder.with_client_auth_cert(chain, private).map_err(|source| TlsError::Client {
                certificate: certificate.clone(),
                key: key.clone(),
                source,
            })?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path, remedy: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_public(path, remedy)?;
    let unfit = || TlsError::Pem { path: path.into(), what: "certificate", remedy };
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| unfit())?;
    if found.is_empty() { Err(unfit()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_problem_names_the_file_and_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.pem");
        std::fs::write(&text, "hello").unwrap();
        let missing = folder.path().join("missing.pem");
        for (path, part) in [(&text, "no certificate"), (&missing, "No such file")] {
            let files = TlsFiles { authorities: Some(path.clone()), client: None };
            let words = client_config(&files).unwrap_err().to_string();
            assert!(words.contains(part) && words.contains("mqtt.ca_file"), "{words}");
            assert!(words.contains(path.to_str().unwrap()), "{words}");
        }
    }
}
