# shellcheck shell=bash
# lints the shell scripts
need debian:shellcheck
shellcheck tests/run .ci/run loadtests/run loadtests/*.sh tests/support/*.sh tests/steps/*.sh
passed 1
