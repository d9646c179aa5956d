//! The application of the end-to-end tests as a separate process; see `integration_tests::server`.

use integration_tests::server;
use session_core::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    server::serve().await
}
