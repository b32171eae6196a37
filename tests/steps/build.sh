# shellcheck shell=bash
# builds the gate and its tests, in the one profile that they share
cargo build --release --locked
cargo test --release --locked --no-run
passed 1
