#!/usr/bin/env bash
# Reads a trace of system calls and prints each path that was to be written outside one folder:
# image-writes.sh TRACE WORKING_FOLDER FOLDER_BELOW_IT. Exit status 1 if there was one, or if nothing was written at all.
set -euo pipefail
trace=$1 wd=$2 below=$3
written=$(grep -E 'O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|^[0-9]+ +(creat|mk|rename|unlink|rmdir|link|symlink|truncate|f?chmod|f?chown)' "$trace" |
  grep -o '"[^"]*"' | tr -d '"' | sort -u)
[ -n "$written" ] || { echo "nothing was written: the trace is not what it should be"; exit 1; }
! grep -vE "^(\./)?$below(/|$)|^$wd/$below(/|$)|^/dev/null$|^/proc/self/" <<<"$written"
