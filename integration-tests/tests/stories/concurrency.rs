use futures_util::future::join_all;

use crate::support::{Deployment, post_patiently};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_requests_at_once_through_three_instances_lose_nothing() {
    let deployment = Deployment::on_redis(3).await;
    let mut lost = 0;
    for _ in 0..50 {
        let browser = deployment.browser();
        browser.post("/set/start/here").await.ok();

        let paths = (0..20).map(|number| format!("/set/key{number}/value{number}"));
        join_all(paths.map(async |path| post_patiently(&browser, &path).await.ok())).await;

        let session = browser.session().await;
        for number in 0..20 {
            if session["values"][format!("key{number}")] != format!("value{number}") {
                lost += 1;
            }
        }
    }
    assert_eq!(lost, 0, "of 1,000 acknowledged writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_increments_at_once_add_five_hundred() {
    for deployment in [Deployment::on_redis(3).await, Deployment::on_memory(1).await] {
        let browser = deployment.browser();
        browser.post("/set/start/here").await.ok();

        join_all((0..500).map(async |_| post_patiently(&browser, "/count").await.ok())).await;

        assert_eq!(browser.session().await["values"]["count"], 500);
    }
}
