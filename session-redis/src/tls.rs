use std::{io, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::error::ConnectError;

/// The TLS settings of a configuration, unchecked.
#[derive(Clone, Default)]
pub(crate) struct TlsSettings {
    pub(crate) config: Option<Arc<ClientConfig>>,
    pub(crate) server_name: Option<String>,
    /// The trusted authorities in PEM format, or `None` for those of the system.
    pub(crate) root_certificates: Option<Vec<u8>>,
    /// The certificate and its key, in PEM format.
    pub(crate) client_certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsSettings {
    pub(crate) fn are_given(&self) -> bool {
        self.config.is_some()
            || self.server_name.is_some()
            || self.root_certificates.is_some()
            || self.client_certificate.is_some()
    }

    /// Returns the TLS client, which all connections of a store share.
    pub(crate) fn client(&self) -> Result<TlsClient, ConnectError> {
        let has_certificates =
            self.root_certificates.is_some() || self.client_certificate.is_some();
        let config = match &self.config {
            Some(_) if has_certificates => {
                return Err(ConnectError::misconfigured(
                    "there are certificates beside `with_tls_config`, which brings its own",
                ));
            }
            Some(config) => Arc::clone(config),
            None => Arc::new(self.build()?),
        };
        let server_name = self.server_name.as_deref().map(server_name).transpose()?;
        Ok(TlsClient { connector: TlsConnector::from(config), server_name })
    }

    fn build(&self) -> Result<ClientConfig, ConnectError> {
        let roots = match &self.root_certificates {
            Some(pem) => given_roots(pem)?,
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(crypto_provider()?)
            .with_safe_default_protocol_versions()
            .map_err(|_| {
                ConnectError::misconfigured("the installed cryptography has no TLS 1.2 and no 1.3")
            })?
            .with_root_certificates(roots);
        let Some((certificate, key)) = &self.client_certificate else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| unreadable())?;
        builder.with_client_auth_cert(chain, key).map_err(|_| unreadable())
    }
}

/// A TLS client.
#[derive(Clone)]
pub(crate) struct TlsClient {
    connector: TlsConnector,
    /// The name in the certificates of all servers, in place of the host of each server.
    server_name: Option<ServerName<'static>>,
}

impl TlsClient {
    /// Performs the TLS handshake over a connection to a host.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        };
        self.connector.connect(name, stream).await
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, ConnectError> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        ConnectError::misconfigured(format!(
            "the server name {name:?} is neither a host name nor an IP address"
        ))
    })
}

fn given_roots(pem: &[u8]) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|_| unreadable())?;
    }
    Ok(roots)
}

/// Returns the authorities that the system trusts. Unreadable certificates are skipped.
fn system_roots() -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(ConnectError::misconfigured(
            "the system knows no authority for certificates: `with_root_certificate` names one",
        ));
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(unreadable)
}

fn unreadable() -> ConnectError {
    ConnectError::misconfigured(
        "the certificates cannot be read: they are to be in PEM format, the key too",
    )
}

/// Returns the cryptography provider that the application has installed for the process, or else
/// the built-in provider. A process can install a provider only once, so this crate leaves the
/// choice to the application.
fn crypto_provider() -> Result<Arc<CryptoProvider>, ConnectError> {
    if let Some(installed) = CryptoProvider::get_default() {
        return Ok(Arc::clone(installed));
    }
    built_in_provider().map(Arc::new).ok_or_else(|| {
        ConnectError::misconfigured(
            "TLS has no cryptography: enable the feature `tls-ring` or `tls-aws-lc-rs`, \
             or install a `CryptoProvider` of rustls before",
        )
    })
}

#[cfg(feature = "tls-aws-lc-rs")]
fn built_in_provider() -> Option<CryptoProvider> {
    Some(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc-rs")))]
fn built_in_provider() -> Option<CryptoProvider> {
    Some(rustls::crypto::ring::default_provider())
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
fn built_in_provider() -> Option<CryptoProvider> {
    None
}
