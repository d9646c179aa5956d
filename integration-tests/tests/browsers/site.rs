use std::{
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use axum::{Router, serve::Listener};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{CertifiedKey, KeyPair, PublicKeyData as _, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The hosts of the stories. Each is a site of its own.
pub(crate) const HOSTS: [&str; 4] = [SHOP, BLOG, WIDGET, EVIL];
pub(crate) const SHOP: &str = "shop.example";
pub(crate) const BLOG: &str = "blog.example";
pub(crate) const WIDGET: &str = "widget.example";
pub(crate) const EVIL: &str = "evil.example";

/// An application behind HTTPS, until the end of the test.
pub(crate) struct Site {
    scheme: &'static str,
    port: u16,
}

impl Site {
    pub(crate) async fn serve(app: Router) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (sender, connections) = mpsc::channel(16);
        tokio::spawn(accept(tcp, sender));
        tokio::spawn(axum::serve(TlsListener { connections, address }, app).into_future());
        Self { scheme: "https", port: address.port() }
    }

    pub(crate) async fn serve_without_tls(app: Router) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        tokio::spawn(axum::serve(tcp, app).into_future());
        Self { scheme: "http", port }
    }

    /// Returns a URL of the application at one of [`HOSTS`].
    pub(crate) fn url(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme, self.port)
    }
}

/// Connections whose handshake is complete.
struct TlsListener {
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.connections.recv().await.expect("the task accepts until the listener is dropped")
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

/// Accepts connections. Each handshake has its task, because browsers open connections in advance.
async fn accept(tcp: TcpListener, sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let CertifiedKey { cert, signing_key } = &*CERTIFICATE;
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((connection, client)) = tcp.accept().await {
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            if let Ok(connection) = acceptor.accept(connection).await {
                let _ = sender.send((connection, client)).await;
            }
        });
    }
}

/// Returns the SHA-256 of the certificate's public key, by which Chromium trusts the certificate.
pub(crate) fn certificate_pin() -> String {
    BASE64_STANDARD.encode(Sha256::digest(CERTIFICATE.signing_key.subject_public_key_info()))
}

static CERTIFICATE: LazyLock<CertifiedKey<KeyPair>> =
    LazyLock::new(|| generate_simple_self_signed(HOSTS.map(str::to_owned)).unwrap());
