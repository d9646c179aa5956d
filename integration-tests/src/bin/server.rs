//! The application of the stories as a process of its own; see `integration_tests::server`.

use integration_tests::server;
use session_core::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    server::serve().await
}
