#!/usr/bin/env bash
# Compile requirements/*.in into pinned, hashed requirements/*.txt for Linux x86-64 and Python 3.11 (`make lock`).
#
# All groups are resolved together first and each one then keeps to that result, so that any two of them agree on every
# version. What is pinned already stays as it is; UPGRADE=1 takes the newest. No address of a registry and no path of a
# machine gets into the files.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=.venv/bin/uv
groups=(setup serve cpu gpu cluster weights demo dev)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# compile OUTPUT INPUT...: the versions that OUTPUT already holds are preferred.
compile() {
    "$uv" pip compile --quiet --no-header --generate-hashes \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 --output-file "$@" >/dev/null
}

pins='^[A-Za-z0-9._-]+==[^ ;\\]+'
together=$scratch/together.txt
: >"$together"
if [[ -z ${UPGRADE:-} ]]; then
    cat requirements/*.txt 2>/dev/null | grep -oE "$pins" | sort -u >"$together" || true
fi
inputs=("${groups[@]/#/requirements/}")
compile "$together" "${inputs[@]/%/.in}"
grep -oE "$pins" "$together" >"$scratch/pins"

for group in "${groups[@]}"; do
    cp "$scratch/pins" "$scratch/$group.txt"
    compile "$scratch/$group.txt" "requirements/$group.in"
    if moved=$(grep -oE "$pins" "$scratch/$group.txt" | grep -vxFf "$scratch/pins"); then
        echo "make lock: $group disagrees with the other groups on ${moved//$'\n'/, }: pin it in requirements/*.in" >&2
        exit 1
    fi
done
for group in "${groups[@]}"; do
    cp "$scratch/$group.txt" "requirements/$group.txt"
    echo "requirements/$group.txt: $(grep -cE "$pins" "requirements/$group.txt") packages"
done
