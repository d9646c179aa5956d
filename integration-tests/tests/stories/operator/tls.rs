//! `sessions` on servers that demand TLS.

use std::fs;

use integration_tests::{Authority, TlsFiles};
use session_axum::RedisConfig;

use super::Site;

#[tokio::test]
async fn program_presents_a_certificate() {
    let ours = Authority::new();
    let (_redis, files, url) = TlsFiles::server(&ours, "redis.elsewhere").await;
    let (certificate, key) = ours.sign("operator");
    let config = RedisConfig::new(&*url)
        .with_root_certificate(ours.pem())
        .with_client_certificate(&*certificate, &*key)
        .with_tls_server_name("redis.elsewhere");
    let mut site = Site::new(config, url).await;
    let path = |name| files.folder().join(name).display().to_string();
    let [ca, cert, cert_key] = ["ca.pem", "ops.pem", "ops.key"].map(path);
    fs::write(&cert, certificate).unwrap();
    fs::write(&cert_key, key).unwrap();
    site.options = ["--ca", &*ca, "--cert", &*cert, "--server-name", "redis.elsewhere"]
        .map(str::to_owned)
        .to_vec();
    let run = site.run(["count"]).await;
    assert!(run.code == 2 && run.err.contains("--cert-key <FILE>"), "{}", run.err);
    site.options.extend(["--cert-key".to_owned(), cert_key]);
    assert_eq!(site.count().await, 0);
}
