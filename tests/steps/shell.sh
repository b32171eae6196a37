# shellcheck shell=bash
# lints the shell scripts
need debian:shellcheck
shellcheck tests/run tests/faults/run tests/otlp-conformance .ci/run loadtests/run loadtests/*.sh tests/support/*.sh tests/steps/*.sh
passed 1
