//! A member of the support staff acts as a user, over HTTP and several processes.

use integration_tests::Browser;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Deployment;

async fn deployments() -> [Deployment; 2] {
    [Deployment::on_memory(1).await, Deployment::on_redis(3).await]
}

/// Returns the browser of `ada`, who acts as `grace`.
async fn acting(deployment: &Deployment) -> Browser {
    let browser = deployment.browser();
    browser.post("/login/ada").await.ok();
    browser.post("/set/note/of-ada").await.ok();
    browser.post("/act-as/grace").await.ok();
    browser
}

/// Returns owner, actor and values of a browser's session.
async fn shown(browser: &Browser) -> Value {
    let session = browser.fork().session().await;
    json!([session["owner"], session["actor"], session["values"]])
}

#[tokio::test]
async fn support_acts_as_a_user_and_goes_back() {
    for deployment in deployments().await {
        let ada = deployment.browser();
        ada.post("/login/ada").await.ok();
        ada.post("/set/note/of-ada").await.ok();
        let stolen = ada.fork();
        ada.post("/act-as/grace").await.ok();
        assert_eq!(shown(&ada).await, json!(["grace", "ada", {}]));
        assert_eq!(shown(&stolen).await, json!([null, null, {}]), "the former ID is closed");
        assert_eq!(ada.post("/act-as/linus").await.status, StatusCode::FORBIDDEN);

        ada.post("/set/note/of-grace").await.ok();
        ada.post("/renew").await.ok();
        let stolen = ada.fork();
        ada.post("/stop-acting").await.ok();
        assert_eq!(shown(&ada).await, json!(["ada", null, { "note": "of-ada" }]));
        assert_eq!(
            shown(&stolen).await,
            json!([null, null, {}]),
            "the ID of the impersonation is closed"
        );
    }
}

#[tokio::test]
async fn impersonation_ends_with_a_revocation_of_either_user() {
    for deployment in deployments().await {
        for revoked in ["grace", "ada"] {
            let support = acting(&deployment).await;
            let device = deployment.at_server(&deployment.browser(), 1);
            device.post(&format!("/login/{revoked}")).await.ok();
            let list = device.get("/devices").await.ok().json();
            assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
            assert_eq!(device.post("/end-others").await.ok().body, "1");
            assert_eq!(shown(&support).await, json!([null, null, {}]), "{revoked}");
            device.post("/logout").await.ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_stores_nothing_after_a_revocation_of_the_user() {
    for deployment in deployments().await {
        let support = acting(&deployment).await;
        let slow = deployment.at_server(&support.fork(), 0);
        let writing = tokio::spawn({
            let slow = slow.clone();
            async move { slow.post("/slow/acting/note/written").await }
        });
        slow.post("/gates/acting/wait").await.ok();
        let grace = deployment.at_server(&deployment.browser(), 1);
        grace.post("/login/grace").await.ok();
        assert_eq!(grace.post("/end-others").await.ok().body, "1");
        slow.post("/gates/acting/open").await.ok();
        assert_eq!(writing.await.unwrap().status, StatusCode::CONFLICT);
        assert_eq!(shown(&support).await, json!([null, null, {}]));
    }
}

/// A late request of the impersonation writes nothing into the actor's own session.
#[tokio::test(flavor = "multi_thread")]
async fn late_request_is_refused_after_the_way_back() {
    for deployment in deployments().await {
        let support = acting(&deployment).await;
        let slow = deployment.at_server(&support.fork(), 0);
        let writing = tokio::spawn({
            let slow = slow.clone();
            async move { slow.post("/slow/back/note/of-grace").await }
        });
        slow.post("/gates/back/wait").await.ok();
        deployment.at_server(&support, 1).post("/stop-acting").await.ok();
        slow.post("/gates/back/open").await.ok();
        let answer = writing.await.unwrap();
        assert_eq!((answer.status, answer.set_cookie()), (StatusCode::CONFLICT, None));
        assert_eq!(shown(&support).await, json!(["ada", null, { "note": "of-ada" }]));
    }
}
