//! Certificates change during the life of the process, and the application chooses its own cryptography.

use std::sync::{Arc, Mutex};

use integration_tests::{Authority, Browser, PATIENCE, TlsFiles, redis_config, until};
use reqwest::StatusCode;
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, WebPkiServerVerifier, danger::*},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};
use session_axum::{RedisConfig, RedisStore, Sessions};

use crate::{
    support::serve,
    transports::{a_visitor_is_signed_in, why},
};

/// Certificates that are replaced while in use, as in a program that receives them from an agent.
#[derive(Debug)]
struct Rotating {
    provider: Arc<CryptoProvider>,
    ours: Mutex<Arc<CertifiedKey>>,
    trusted: Mutex<Arc<WebPkiServerVerifier>>,
}

impl Rotating {
    fn new(authority: &Authority) -> Arc<Self> {
        let provider = Arc::new(ring::default_provider());
        let ours = Mutex::new(certified_key(authority, &provider));
        let trusted = Mutex::new(verifier(authority, &provider));
        Arc::new(Self { provider, ours, trusted })
    }

    fn rotate(&self, authority: &Authority) {
        *self.ours.lock().unwrap() = certified_key(authority, &self.provider);
        *self.trusted.lock().unwrap() = verifier(authority, &self.provider);
    }

    fn config(self: &Arc<Self>) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as _)
            .with_client_cert_resolver(Arc::clone(self) as _)
    }

    fn trusted(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.trusted.lock().unwrap())
    }
}

fn certified_key(authority: &Authority, provider: &CryptoProvider) -> Arc<CertifiedKey> {
    let (certificate, key) = authority.sign("application");
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    Arc::new(CertifiedKey::from_der(vec![certificate], key, provider).unwrap())
}

fn verifier(authority: &Authority, provider: &Arc<CryptoProvider>) -> Arc<WebPkiServerVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .unwrap()
}

impl ResolvesClientCert for Rotating {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.ours.lock().unwrap()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ServerCertVerifier for Rotating {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let trusted = self.trusted();
        trusted.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted().supported_verify_schemes()
    }
}

/// The authority of both sides is replaced: each side would refuse a certificate of the former
/// authority.
#[tokio::test]
async fn certificates_of_both_sides_change_while_the_process_lives() {
    let authority = Authority::new();
    let (redis, files, url) = TlsFiles::server(&authority, "127.0.0.1").await;
    let certificates = Rotating::new(&authority);
    let config = RedisConfig::new(url).with_tls_config(certificates.config());
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    browser.post("/login/ada").await.ok();
    for _ in 0..3 {
        let authority = Authority::new();
        files.renew(&authority, "127.0.0.1");
        redis.stop().await;
        redis.start_again().await;
        // The former certificates are invalid now.
        until("a failing handshake is reported", async || {
            browser.post("/login/ada").await.status == StatusCode::SERVICE_UNAVAILABLE
        })
        .await;
        certificates.rotate(&authority);
        until("sessions are back", async || {
            browser.post("/login/ada").await.status == StatusCode::OK
        })
        .await;
        assert_eq!(browser.session().await["owner"], "ada");
    }
}

#[tokio::test]
async fn a_configuration_of_tls_stands_alone() {
    let authority = Authority::new();
    let (_redis, _files, url) = TlsFiles::server(&authority, "127.0.0.1").await;
    let certificates = Rotating::new(&authority);
    let config = || RedisConfig::new(&*url).with_tls_config(certificates.config());
    a_visitor_is_signed_in(config()).await;
    let (_, text) = why(config().with_root_certificate(authority.pem())).await;
    assert!(text.contains("beside `with_tls_config`"), "{text}");
}

/// An application may also install its provider before it connects. The test shows that a store installs
/// none.
#[tokio::test]
async fn an_application_installs_its_cryptography_after_connecting() {
    let authority = Authority::new();
    let (_redis, _files, url) = TlsFiles::server(&authority, "127.0.0.1").await;
    let (certificate, key) = authority.sign("application");
    let config = || {
        RedisConfig::new(&*url)
            .with_root_certificate(authority.pem())
            .with_client_certificate(&*certificate, &*key)
    };
    a_visitor_is_signed_in(config()).await;
    ring::default_provider().install_default().expect("nobody else has installed one");
    a_visitor_is_signed_in(config()).await;
}
