# shellcheck shell=bash
# lints the Dockerfile
need hadolint
hadolint Dockerfile
passed 1
