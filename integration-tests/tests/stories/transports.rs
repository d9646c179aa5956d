//! How bytes get to Redis: by TLS, with certificates on both sides, and by a Unix socket.

use std::{error::Error as _, fs};

use integration_tests::{Browser, PATIENCE, RedisServer, free_port, redis_config};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::StoreErrorKind;
use tempfile::TempDir;

use crate::support::serve;

async fn a_visitor_is_signed_in(config: RedisConfig) {
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    browser.post("/login/ada").await.ok();
    browser.post("/count").await.ok();
    assert_eq!(browser.session().await["owner"], "ada");
}

async fn why(config: RedisConfig) -> (StoreErrorKind, String) {
    let error = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap_err();
    (error.kind(), error.source().map(ToString::to_string).unwrap_or_default())
}

#[tokio::test]
async fn a_unix_socket_leads_to_redis() {
    let folder = TempDir::with_prefix("redis-socket-").unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let redis = RedisServer::builder().arg("--unixsocket", socket.clone()).on_host().start().await;
    a_visitor_is_signed_in(RedisConfig::new(format!("unix://{socket}?db=3"))).await;
    a_visitor_is_signed_in(RedisConfig::new(format!("unix://{socket}")).with_database(3)).await;
    let mut connection = redis.connection().await;
    let keyspace: String =
        redis::cmd("INFO").arg("keyspace").query_async(&mut connection).await.unwrap();
    assert!(keyspace.contains("db3:keys=3") && !keyspace.contains("db0"), "{keyspace}");

    let (kind, text) = why(RedisConfig::new(format!("unix://{socket}-elsewhere"))).await;
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(text.contains("nobody listens at"), "{text}");
}

/// An authority, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for a name, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // A name of its own: one that is its issuer's would be taken for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A Redis that speaks TLS at a second port, and wants to see certificates there.
async fn with_tls(authority: &Authority, name: &str) -> (RedisServer, TempDir, String) {
    let folder = TempDir::with_prefix("redis-tls-").unwrap();
    let (certificate, key) = authority.sign(name);
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let port = free_port();
    let redis = RedisServer::builder()
        .arg("--tls-port", port.to_string())
        .arg("--tls-ca-cert-file", file("ca.pem", &authority.0.pem()))
        .arg("--tls-cert-file", file("server.pem", &certificate))
        .arg("--tls-key-file", file("server.key", &key))
        .on_host()
        .start()
        .await;
    (redis, folder, format!("rediss://127.0.0.1:{port}"))
}

#[tokio::test]
async fn redis_and_the_application_know_each_other_by_certificates() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (redis, _files, url) = with_tls(&ours, "127.0.0.1").await;
    let (certificate, key) = ours.sign("application");
    let config = || RedisConfig::new(&*url).with_root_certificate(ours.0.pem());
    a_visitor_is_signed_in(config().with_client_certificate(&*certificate, &*key)).await;

    let (kind, text) = why(RedisConfig::new(&*url)).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("its certificate is not accepted"), "the system knows it not: {text}");

    let (kind, text) = why(config()).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("`with_client_certificate`"), "{text}");

    let (certificate, key) = theirs.sign("application");
    let (kind, text) = why(config().with_client_certificate(&*certificate, &*key)).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("`with_client_certificate`"), "{text}");

    let (kind, text) = why(config().with_client_certificate("no", "certificate")).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("the certificates cannot be read"), "{text}");

    // The one without where there is the other, and the other way round.
    let plain = RedisConfig::new(redis.url().replace("redis:", "rediss:"));
    let plain = plain.with_root_certificate(ours.0.pem());
    // Redis waits for the end of a line.
    let error = RedisStore::connect(plain).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout);
    let text = error.source().unwrap().to_string();
    assert!(text.contains("or does only one side speak TLS?"), "{text}");
    let (_, text) = why(RedisConfig::new(url.replace("rediss:", "redis:"))).await;
    assert!(text.contains("speak TLS only"), "{text}");
    let (kind, text) = why(RedisConfig::new(redis.url()).with_root_certificate("x")).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("which is not spoken to by TLS"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_another_host_is_not_accepted() {
    let ours = Authority::new();
    let (_redis, _files, url) = with_tls(&ours, "redis.elsewhere").await;
    let (kind, text) = why(RedisConfig::new(url).with_root_certificate(ours.0.pem())).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("it must be made out to this host name"), "{text}");
}
