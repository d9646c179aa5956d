use serde_json::json;

use crate::support::Deployment;

#[tokio::test]
async fn on_redis_a_user_is_still_signed_in_after_the_server_restarts() {
    let mut deployment = Deployment::on_redis(1).await;
    let browser = deployment.browser();
    browser.post("/login/ada").await.ok();
    browser.post("/count").await.ok();

    deployment.restart().await;

    let browser = deployment.at_server(&browser, 0);
    let session = browser.session().await;
    assert_eq!(session["owner"], "ada");
    assert_eq!(session["values"], json!({ "count": 1 }));
}

#[tokio::test]
async fn on_memory_a_restart_signs_everybody_out() {
    let mut deployment = Deployment::on_memory(1).await;
    let browser = deployment.browser();
    browser.post("/login/ada").await.ok();

    deployment.restart().await;

    let browser = deployment.at_server(&browser, 0);
    assert!(browser.session_id().is_some());
    assert_eq!(browser.session().await["owner"], json!(null));
}
