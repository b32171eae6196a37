//! The Firebase JS SDK, unmodified, in Node: `tests/clients/node/callable.mjs`.

use std::process::Command;

use serde_json::Value;

use super::checkout;
use super::gate::Gate;

/// Calls a callable function through the SDK. The answer is `{"data": …}`, or `{"code", "message", "details"}` as the SDK
/// gives them to the app. With `stream`, the SDK's `.stream()` is used.
pub async fn call(gate: &Gate, path: &str, token: Option<&str>, data: &Value, stream: bool) -> Value {
    let script = checkout("tests/clients/node/callable.mjs");
    let installed = checkout("tests/clients/node/node_modules/firebase").exists();
    assert!(installed, "the Firebase SDK is not installed: `./tests/run --only gateway` does it");
    let mut node = Command::new("node");
    node.arg(script).args(["--url", &gate.url(path), "--data", &data.to_string()]);
    if let Some(token) = token {
        node.env("TOKEN", token); // Not an argument: those are seen by everybody on the machine.
    }
    if stream {
        node.arg("--stream");
    }
    if let Some(ca) = gate.ca() {
        node.env("NODE_EXTRA_CA_CERTS", ca);
    }
    let output = tokio::task::spawn_blocking(move || node.output()).await.expect("no panic").expect("there is Node");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("callable.mjs printed no JSON ({error}): {stdout}{stderr}"))
}
