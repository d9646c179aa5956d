# The steps of `.ci/run`, for those who like `just`; nothing needs it. Fuzzing is no step.

# Run every step, as CI does
all:
    .ci/run

# Install what the other steps need
setup:
    .ci/run setup

# Check the formatting
fmt:
    .ci/run fmt

# Run clippy on everything, warnings denied
lint:
    .ci/run lint

# Check each feature of the published crates on its own
features:
    .ci/run features

# Build the documentation, warnings denied
docs:
    .ci/run docs

# Run all tests, on a real Redis too
test:
    .ci/run test

# Run each bench once, without measuring
bench:
    .ci/run bench

# Check licences, bans, sources and advisories
deny:
    .ci/run deny

# Decode arbitrary bytes for five minutes, as `message_pack`, `json` or `record`; needs cargo-fuzz
fuzz target:
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{ target }} -- -max_total_time=300
