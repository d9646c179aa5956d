use integration_tests::{Answer, Browser};
use reqwest::StatusCode;

use crate::support::Deployment;

/// Starts both stores. On Redis, the two requests of a race go to different instances.
async fn deployments() -> [Deployment; 2] {
    [Deployment::on_memory(1).await, Deployment::on_redis(2).await]
}

/// Starts a request on one instance, runs `meanwhile` on another one after the request has loaded the
/// session and before it writes, and then lets the request continue.
async fn while_one_writes<F: Future>(
    deployment: &Deployment,
    browser: &Browser,
    gate: &str,
    meanwhile: impl FnOnce(Browser) -> F,
) -> Answer {
    let slow = deployment.at_server(&browser.fork(), 0);
    let path = format!("/slow/{gate}/note/written");
    let writing = tokio::spawn({
        let slow = slow.clone();
        async move { slow.post(&path).await }
    });
    slow.post(&format!("/gates/{gate}/wait")).await.ok();
    meanwhile(deployment.at_server(browser, 1)).await;
    slow.post(&format!("/gates/{gate}/open")).await.ok();
    writing.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_during_a_slow_write_ends_the_session_for_good() {
    for deployment in deployments().await {
        for round in 0..50 {
            let browser = deployment.browser();
            let browser = deployment.at_server(&browser, 0);
            browser.post("/login/ada").await.ok();
            let old = browser.fork();

            let answer = while_one_writes(
                &deployment,
                &browser,
                &format!("logout-{round}"),
                async |browser| browser.post("/logout").await.ok(),
            )
            .await;

            // A write that is not stored is not acknowledged, and the browser's cookie stays.
            assert_eq!(answer.status, StatusCode::CONFLICT);
            assert_eq!(answer.set_cookie(), None);
            assert_eq!(browser.session_id(), None);
            assert!(old.session().await["key"].is_null(), "the session is back");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_during_a_slow_write_keeps_the_write() {
    for deployment in deployments().await {
        for round in 0..50 {
            let browser = deployment.browser();
            let browser = deployment.at_server(&browser, 0);
            browser.post("/set/cart/full").await.ok();
            let old = browser.fork();

            let answer = while_one_writes(
                &deployment,
                &browser,
                &format!("login-{round}"),
                async |browser| browser.post("/login/ada").await.ok(),
            )
            .await;

            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.set_cookie(), None, "the new ID is for the one who signed in");
            let session = browser.session().await;
            assert_eq!(session["owner"], "ada");
            assert_eq!(session["values"]["cart"], "full");
            assert_eq!(session["values"]["note"], "written", "an acknowledged write is lost");
            assert_ne!(browser.session_id(), old.session_id());
            let opened = old.get("/session").await.ok();
            assert!(opened.json()["key"].is_null(), "the old ID opens the session");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewal_during_a_slow_write_keeps_the_write_and_the_parallel_requests() {
    for deployment in deployments().await {
        let browser = deployment.at_server(&deployment.browser(), 0);
        browser.post("/login/ada").await.ok();
        let old = browser.fork();

        let answer = while_one_writes(&deployment, &browser, "renewal", async |browser| {
            browser.post("/renew").await.ok()
        })
        .await;

        assert_eq!(answer.status, StatusCode::OK);
        assert_ne!(browser.session_id(), old.session_id());
        assert_eq!(browser.session().await["values"]["note"], "written");
        // A request with the old ID succeeds, and its response sends the new ID.
        assert_eq!(old.session().await["owner"], "ada");
        assert_eq!(old.session_id(), browser.session_id());
    }
}
