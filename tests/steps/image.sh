# shellcheck shell=bash
# what the image runs, proven without an engine: libc's libraries only, and no writing outside the data folder
need "debian:strace ip:iproute2 readelf:binutils pgrep:procps curl"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# 1. The dependency layer's stand-in is a package that cargo takes.
mkdir -p "$dir/layer/src"
cp Cargo.toml Cargo.lock "$dir/layer/"
echo 'fn main() {}' >"$dir/layer/src/main.rs"
touch "$dir/layer/src/lib.rs"
cargo metadata --locked --no-deps --format-version 1 --manifest-path "$dir/layer/Cargo.toml" >/dev/null
sed -n 's/^COPY \([^-].*\) [^ ]*$/\1/p' Dockerfile | tr ' ' '\n' | while read -r path; do
  [ -e "$path" ] || { failed 1 "the Dockerfile copies $path, which is not there"; exit 1; }
done
passed 1

# 2. No library but libc's own, all of which distroless/cc has.
readelf -d "$GATE" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | tee "$dir/needed"
if strange=$(grep -vE '^(libc|libm|libgcc_s|libpthread|libdl|librt|ld-linux[-a-z0-9_]*)\.so\.[0-9]+$' "$dir/needed"); then
  failed 1 "needs $(paste -sd ' ' <<<"$strange")"
else
  passed 1
fi

# 3. In a root that holds nothing but those libraries, as nobody, it takes an event and writes below data/ alone.
[ "$(id -u)" = 0 ] || { not_run 1 "only root can make a root folder for it"; exit 0; }
bash tests/support/image-root.sh "$dir/root" "$GATE"
unshare --net bash tests/support/image-probe.sh "$dir/root" "$dir/trace"
bash tests/support/image-writes.sh "$dir/trace" /var/lib/sluicegate data >"$dir/writes" || { cat "$dir/writes"; failed 1 "writes outside its data folder"; exit; }
passed 1
