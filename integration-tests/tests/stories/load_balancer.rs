use crate::support::Deployment;

#[tokio::test]
async fn on_redis_three_instances_count_as_one() {
    let deployment = Deployment::on_redis(3).await;
    let browser = deployment.browser();
    browser.post("/login/ada").await.ok();
    for visit in 1..=300 {
        assert_eq!(browser.post("/count").await.ok().body, visit.to_string());
    }
    // Each of the three has its share of what was counted.
    for number in 0..3 {
        let session = deployment.at_server(&browser, number).session().await;
        assert_eq!((&session["owner"], &session["values"]["count"]), (&"ada".into(), &300.into()));
    }
}

#[tokio::test]
async fn on_memory_an_instance_knows_only_its_own_sessions() {
    let deployment = Deployment::on_memory(3).await;
    let browser = deployment.browser();

    // Round robin: the server that signed the user in is not the one that answers next, which knows
    // nothing of the session.
    browser.post("/login/ada").await.ok();
    assert!(browser.session().await["owner"].is_null());

    // A balancer that keeps a client with its server ("sticky sessions") makes it work.
    let browser = deployment.at_server(&browser, 0);
    browser.post("/login/ada").await.ok();
    for visit in 1..=300 {
        assert_eq!(browser.post("/count").await.ok().body, visit.to_string());
    }
    assert_eq!(browser.session().await["owner"], "ada");
}
