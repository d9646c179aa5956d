use crate::support::Deployment;

#[tokio::test]
async fn on_redis_three_instances_count_as_one() {
    let deployment = Deployment::on_redis(3).await;
    let browser = deployment.browser();
    browser.post("/login/ada").await.ok();
    for visit in 1..=300 {
        assert_eq!(browser.post("/count").await.ok().body, visit.to_string());
    }
    // Every server sees all counts.
    for number in 0..3 {
        let session = deployment.at_server(&browser, number).session().await;
        assert_eq!((&session["owner"], &session["values"]["count"]), (&"ada".into(), &300.into()));
    }
}

#[tokio::test]
async fn on_memory_an_instance_knows_only_its_own_sessions() {
    let deployment = Deployment::on_memory(3).await;
    let browser = deployment.browser();

    // With round robin, the next request goes to another server, which does not know the session.
    browser.post("/login/ada").await.ok();
    assert!(browser.session().await["owner"].is_null());

    // A balancer with sticky sessions, which keeps each client on one server, solves the problem.
    let browser = deployment.at_server(&browser, 0);
    browser.post("/login/ada").await.ok();
    for visit in 1..=300 {
        assert_eq!(browser.post("/count").await.ok().body, visit.to_string());
    }
    assert_eq!(browser.session().await["owner"], "ada");
}
