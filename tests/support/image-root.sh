#!/usr/bin/env bash
# Makes the image's file system without an engine: image-root.sh FOLDER BINARY
set -euo pipefail
root=$1 gate=$2
mkdir -p "$root"/{usr/bin,etc/sluicegate,dev,var/lib/sluicegate/data}
ldd "$gate" | grep -o '/[^ ]*' | sort -u | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
cp "$gate" "$root/usr/bin/sluicegate"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/urandom" c 1 9
cat >"$root/etc/sluicegate/gate.toml" <<END
# Beyond loopback there is no development token: an issuer is named.
[auth.issuers.test]
kind = "static"
issuer = "test"
audience = "sluicegate"
algorithm = "HS256"
key_file = "/etc/sluicegate/key"
topics = ["*"]
END
echo 'a key of the test, which is long enough to be one' >"$root/etc/sluicegate/key"
# The user of distroless's nonroot.
chown 65532:65532 "$root/var/lib/sluicegate/data"
chmod 644 "$root/etc/sluicegate/"*
chmod 755 "$root"
