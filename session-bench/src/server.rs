use std::{env, net::Ipv4Addr};

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use crate::{BoxError, candidate::Candidate, child, cores::Cores};

/// Serves one candidate until the process ends, restricted to the cores if any are named.
pub(crate) fn run(candidate: &str, cores: Option<&str>) -> Result<(), BoxError> {
    if let Some(cores) = cores {
        Cores::parse(cores)?.keep_to()?;
    }
    let router = Candidate::find(candidate)
        .and_then(|candidate| candidate.router)
        .ok_or_else(|| format!("no candidate {candidate:?}"))?;
    let redis_url = env::var("REDIS_URL").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = router(redis_url).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}{}", child::LISTENING, listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        Ok(axum::serve(listener, router).await?)
    })
}
