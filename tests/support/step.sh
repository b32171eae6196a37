#!/usr/bin/env bash
# Runs one step of tests/run: `step.sh NAME`, with ROOT, OUT, RESULT and NOT_RUN set.
set -euo pipefail
cd "$ROOT"
# shellcheck source=tests/support/tools.sh
source tests/support/tools.sh
# shellcheck source=tests/support/report.sh
source tests/support/report.sh
export SLUICEGATE_NOT_RUN=$NOT_RUN PATH=$BIN:$PATH
export K6_NO_USAGE_REPORT=true K6_AUTO_EXTENSION_RESOLUTION=false
GATE=${GATE:-$ROOT/target/release/sluicegate}
export GATE
# shellcheck disable=SC1090
source "tests/steps/$1.sh"
