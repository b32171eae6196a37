# shellcheck shell=bash
# The OpenTelemetry SDKs, unmodified from their registries, with the small programs that drive them.
# To be sourced by tools.sh. What always holds: the checkout has sources only; node_modules in it is a link, for Node to look at.

OTLP_CLIENTS_SRC=$ROOT/tests/clients/otlp

get_otlp_clients() {
  have node && have npm || missing "no Node (20 or newer) with npm for the SDK in JavaScript" || return
  have python3 || missing "no Python 3 for the SDK in Python" || return
  have javac && have mvn || missing "no JDK with Maven for the SDK in Java" || return
  have cargo || missing "no Rust for the SDK in Rust" || return
  once otlp-clients "$(otlp_clients_stamp)" install_otlp_clients || missing "the OpenTelemetry SDKs could not be installed" || return
  ln -sfn "$CACHE/otlp-clients/node_modules" "$OTLP_CLIENTS_SRC/node_modules"
}
otlp_clients_stamp() {
  echo "$(sum "$OTLP_CLIENTS_SRC"/{package.json,package-lock.json,requirements.txt,pom.xml,Send.java,page.mjs,telemetry.mjs} "$OTLP_CLIENTS_SRC"/rust/{Cargo.toml,Cargo.lock,src/main.rs})" \
    "$(python3 -V) $(java -version 2>&1 | sum -) $(rustc -V)"
}

install_otlp_clients() {
  local src=$OTLP_CLIENTS_SRC
  cp "$src"/{package.json,package-lock.json,page.mjs,telemetry.mjs} "$1/"
  (cd "$1" && npm ci --no-audit --no-fund --loglevel=error)
  (cd "$1" && node_modules/.bin/esbuild page.mjs --bundle --platform=browser --target=es2022 --format=iife --outfile=page.js --log-level=warning)
  python3 -m venv "$1/venv"
  "$1/venv/bin/pip" install -q --disable-pip-version-check -r "$src/requirements.txt"
  mvn -B -q -f "$src/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1/java/jars" >"$1/mvn.log" 2>&1 || { cat "$1/mvn.log"; return 1; }
  javac -Xlint:-options --release 11 -cp "$1/java/jars/*" -d "$1/java/classes" "$src/Send.java"
  # Not optimized: it sends little, and is built in half the time.
  CARGO_TARGET_DIR=$1/rust/target nice -n 15 cargo build -q --locked --manifest-path "$src/rust/Cargo.toml"
  cp "$1/rust/target/debug/otlp-client" "$1/rust/" && rm -rf "$1/rust/target"
}
