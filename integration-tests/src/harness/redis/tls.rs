use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;

use super::{RedisServer, RedisServerBuilder, free_port};

/// A certificate authority of a test.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Creates a new authority, which no client trusts yet.
    ///
    /// # Panics
    ///
    /// If key generation fails.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate of its own"))
    }

    /// Returns the authority's certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Returns the authority's certificate, in DER.
    #[must_use]
    pub fn der(&self) -> rustls::pki_types::CertificateDer<'static> {
        self.0.der().clone()
    }

    /// Signs a new certificate for a host name or an IP address, and returns the certificate and its key, in
    /// PEM.
    ///
    /// # Panics
    ///
    /// If the name is neither.
    #[must_use]
    pub fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // The subject must differ from the issuer: otherwise the certificate would count as self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.0).expect("a certificate");
        (signed.pem(), key.serialize_pem())
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// The certificates and keys of a Redis and its clients.
#[derive(Debug)]
pub struct TlsFiles {
    folder: TempDir,
}

impl TlsFiles {
    /// Creates the files for a server of this name.
    ///
    /// # Panics
    ///
    /// If the files cannot be written.
    #[must_use]
    pub fn new(authority: &Authority, name: &str) -> Self {
        let folder = TempDir::with_prefix("redis-tls-").expect("a folder");
        let files = Self { folder };
        files.renew(authority, name);
        files
    }

    /// Replaces the certificates. A server reads the files when it starts, and when one of its TLS
    /// settings is set.
    ///
    /// # Panics
    ///
    /// If the files cannot be written.
    pub fn renew(&self, authority: &Authority, name: &str) {
        let (certificate, key) = authority.sign(name);
        let contents =
            [("ca.pem", authority.pem()), ("server.pem", certificate), ("server.key", key)];
        for (name, content) in contents {
            fs::write(self.folder.path().join(name), content).expect("a file");
        }
    }

    /// Starts a server with a second port for TLS, also for other servers. By default, clients of this
    /// port must present a certificate.
    ///
    /// # Panics
    ///
    /// If the server does not start.
    pub async fn start(&self, server: RedisServerBuilder, port: u16) -> RedisServer {
        let settings = self.settings(port).into_iter();
        settings
            .fold(server, |server, (name, value)| server.arg(name, value))
            .on_host()
            .start()
            .await
    }

    /// Starts a server of this name with new files, and returns both and the TLS URL.
    ///
    /// # Panics
    ///
    /// If the server does not start.
    pub async fn server(authority: &Authority, name: &str) -> (RedisServer, Self, String) {
        let files = Self::new(authority, name);
        let port = free_port();
        let redis = files.start(RedisServer::builder(), port).await;
        (redis, files, format!("rediss://127.0.0.1:{port}"))
    }

    /// Makes a running server read the certificates again.
    ///
    /// # Panics
    ///
    /// If the server refuses the files.
    pub async fn reload(&self, redis: &RedisServer) {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET");
        for (name, value) in self.settings(0).iter().filter(|(name, _)| name.ends_with("-file")) {
            set.arg(name.trim_start_matches('-')).arg(value);
        }
        let mut admin = redis.connection().await;
        set.query_async::<()>(&mut admin).await.expect("new certificates");
    }

    /// Returns the folder with `ca.pem`, `server.pem` and `server.key`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn settings(&self, port: u16) -> [(&'static str, String); 6] {
        let file = |name| self.folder.path().join(name).display().to_string();
        [
            ("--tls-port", port.to_string()),
            ("--tls-ca-cert-file", file("ca.pem")),
            ("--tls-cert-file", file("server.pem")),
            ("--tls-key-file", file("server.key")),
            ("--tls-replication", "yes".to_owned()),
            ("--tls-cluster", "yes".to_owned()),
        ]
    }
}
