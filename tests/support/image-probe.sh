#!/usr/bin/env bash
# Runs the image's program as the image would, in a network of its own, and sends it an event:
# image-probe.sh ROOT TRACE. To be called in `unshare --net`.
set -euo pipefail
root=$1 trace=$2
ip link set lo up
in_image=("$(command -v unshare)" --root="$root" --wd=/var/lib/sluicegate --setgid 65532 --setuid 65532)
settings=(env -i PORT=8080 STRUCTURED_LOGS=true SLUICEGATE_CONFIG=/etc/sluicegate/gate.toml)

"${settings[@]}" "$(command -v strace)" -f -qq -o "$trace" \
  -e trace=open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,truncate,chmod,fchmodat,chown,fchownat \
  "${in_image[@]}" /usr/bin/sluicegate serve >"$trace.log" 2>&1 &
strace=$!
trap 'kill -9 $strace 2>/dev/null || :' EXIT
up() { curl -sf -o /dev/null http://127.0.0.1:8080/livez; }
for _ in $(seq 200); do
  if up; then break; fi
  kill -0 $strace 2>/dev/null || { cat "$trace.log"; exit 1; }
  sleep 0.1
done

token=$("${settings[@]}" "${in_image[@]}" /usr/bin/sluicegate token --sub probe | tail -n 1)
answer=$(curl -s -w '\n%{http_code}' http://127.0.0.1:8080/v1/events/events -H "Authorization: Bearer $token" \
  -H 'Content-Type: application/json' -d '{"data":{"n":1}}')
echo "$answer"
# No broker: the inbox took it, so something was written.
[ "${answer##*$'\n'}" = 202 ] || { cat "$trace.log"; exit 1; }
kill "$(pgrep -P $strace)"
wait $strace || { cat "$trace.log"; exit 1; }
