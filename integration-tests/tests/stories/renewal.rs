use axum::http::StatusCode;

use crate::support::{Deployment, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn renewals_whose_responses_are_lost_sign_nobody_out() {
    let deployment = Deployment::on_redis(3).await;
    let browser = deployment.browser();
    browser.post("/login/ada").await.ok();
    for lost in 0..5 {
        // The response never reaches the browser, because a fork has a separate jar.
        let renewing = deployment.at_server(&browser.fork(), lost);
        renewing.post("/renew").await.ok();
        assert_ne!(renewing.session_id(), browser.session_id());
        // The response of the next request, which sends the new ID again, is lost too.
        let told_again = deployment.at_server(&browser.fork(), lost + 1);
        let answer = told_again.post("/count").await.ok();
        assert!(answer.set_cookie().is_some(), "the new ID is told again");
        assert_eq!(told_again.session_id(), renewing.session_id());
    }
    let answer = browser.post("/count").await.ok();
    assert!(answer.set_cookie().is_some());
    let session = browser.session().await;
    assert_eq!(session["owner"], "ada");
    assert_eq!(session["values"]["count"], 6, "every count of the lost responses is there");
}

#[tokio::test]
async fn the_former_id_opens_nothing_after_the_grace() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let former = stage.browser.fork();
    stage.browser.post("/renew").await.ok();
    // The grace begins when the browser presents the new ID.
    stage.advance(1_800_000);
    stage.browser.session().await;
    stage.advance(29_999);
    assert_eq!(former.fork().session().await["owner"], "ada");
    stage.advance(1);
    assert!(former.session().await["owner"].is_null());
    let answer = stage.browser.post("/count").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(stage.browser.session().await["owner"], "ada");
}
