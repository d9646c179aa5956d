//! The sessions of one link, such as the session of an identity provider (I8).

use integration_tests::{Browser, until};
use redis::AsyncCommands as _;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Deployment, Stage, post_patiently};

async fn sign_in(deployment: &Deployment, server: usize, path: &str) -> Browser {
    let browser = deployment.browser();
    deployment.at_server(&browser, server).post(path).await.ok();
    browser
}

async fn is_signed_in(browser: &Browser) -> bool {
    !browser.fork().session().await["owner"].is_null()
}

async fn deployments() -> [Deployment; 2] {
    [Deployment::on_memory(1).await, Deployment::on_redis(3).await]
}

#[tokio::test]
async fn linked_sessions_end_at_every_instance() {
    for deployment in deployments().await {
        let ada = sign_in(&deployment, 0, "/login/ada/s1").await;
        let grace = sign_in(&deployment, 1, "/login/grace/s1").await;
        let other = sign_in(&deployment, 2, "/login/ada/s2").await;
        let unlinked = sign_in(&deployment, 0, "/login/ada").await;
        ada.post("/renew").await.ok();

        let provider = deployment.at_server(&deployment.browser(), 2);
        assert_eq!(provider.get("/linked/s1").await.ok().json(), json!(["ada", "grace"]));
        assert_eq!(provider.post("/end-linked/s1").await.ok().body, "2");
        for browser in [&ada, &grace] {
            assert!(!is_signed_in(browser).await);
        }
        for browser in [&other, &unlinked] {
            assert!(is_signed_in(browser).await);
        }
        assert_eq!(provider.post("/end-linked/s1").await.ok().body, "0");
        assert_eq!(provider.get("/linked/s1").await.ok().json(), json!([]));

        // The next login of the browser drops the link.
        other.post("/login/ada").await.ok();
        assert_eq!(provider.post("/end-linked/s2").await.ok().body, "0");
        assert!(is_signed_in(&other).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_under_way_stores_nothing_in_a_linked_session_that_ended() {
    for deployment in deployments().await {
        let phone = sign_in(&deployment, 0, "/login/ada/s1").await;
        let slow = deployment.at_server(&phone.fork(), 0);
        let writing = tokio::spawn({
            let slow = slow.clone();
            async move { slow.post("/slow/linked/note/written").await }
        });
        slow.post("/gates/linked/wait").await.ok();
        let provider = deployment.at_server(&deployment.browser(), 1);
        assert_eq!(provider.post("/end-linked/s1").await.ok().body, "1");
        slow.post("/gates/linked/open").await.ok();
        assert_eq!(writing.await.unwrap().status, StatusCode::CONFLICT);
        assert!(!is_signed_in(&phone).await);
    }
}

/// Logins, renewals and revocations run concurrently. The last revocation comes after all logins.
#[tokio::test(flavor = "multi_thread")]
async fn revocation_misses_no_concurrent_login() {
    for deployment in deployments().await {
        let browsers: Vec<_> = (0..30).map(|_| deployment.browser()).collect();
        let logins = browsers.iter().cloned().map(|browser| {
            tokio::spawn(async move {
                post_patiently(&browser, "/login/ada/s1").await.ok();
                post_patiently(&browser, "/renew").await
            })
        });
        let logins: Vec<_> = logins.collect();
        let provider = deployment.browser();
        for _ in 0..10 {
            post_patiently(&provider, "/end-linked/s1").await.ok();
        }
        for login in logins {
            login.await.unwrap();
        }
        post_patiently(&provider, "/end-linked/s1").await.ok();
        for browser in &browsers {
            assert!(!is_signed_in(browser).await);
        }
        if deployment.redis.is_some() {
            let mut redis = deployment.redis().connection().await;
            until("the keys have left both indexes", async || {
                redis.keys::<_, Vec<String>>("*i:*").await.unwrap().is_empty()
            })
            .await;
        }
    }
}

/// I12: the entry of a link is one command more, in the same pipeline.
#[tokio::test]
async fn linked_login_costs_one_command_more() {
    let stage = Stage::new().await;
    let mark = stage.redis.mark_commands().await;
    stage.browser.post("/login/ada/s1").await.ok();
    let counts = stage.redis.commands_since(&mark).await;
    assert_eq!((counts.of("eval"), counts.of("set"), counts.total()), (2, 1, 3), "{counts}");

    let mut redis = stage.redis.connection().await;
    let indexes: Vec<String> = redis.keys("session:i:*").await.unwrap();
    assert_eq!(indexes.len(), 2, "{indexes:?}");
    let times: Vec<i64> =
        [redis.pttl(&indexes[0]).await.unwrap(), redis.pttl(&indexes[1]).await.unwrap()].into();
    assert!(times.iter().all(|time| (86_300_000..=86_410_000).contains(time)), "{times:?}");
    stage.browser.post("/logout").await.ok();
    until("both indexes are gone", async || {
        redis.keys::<_, Vec<String>>("session:i:*").await.unwrap().is_empty()
    })
    .await;
}
