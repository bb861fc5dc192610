#!/usr/bin/env bash
# Builds a CUDA binary in a closed network, from the stock crates (nothing vendored or patched).
#
# burn-cuda 0.22.1 always compiles CubeCL's LLVM compiler, whose build script fetches an LLVM bundle from GitHub. Two
# variables make those build scripts return early. The feature `cuda-nvrtc` then makes NVRTC compile the kernels (it needs
# libnvrtc and the CUDA headers at run time), and the LLVM symbols that nobody calls are stubbed with abort().
# With GitHub in reach none of this is needed: cargo build --release --features cuda.
#
# usage: scripts/cuda-offline.sh PACKAGE BINARY      for example: scripts/cuda-offline.sh client foedus-client
# result: target/cuda-offline/release/BINARY and BINARY.xz
set -euo pipefail
cd "$(dirname "$0")/.."
package=$1 binary=$2
export DOCS_RS=1 CARGO_FEATURE_XTASK=1 CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/cuda-offline}
export RUSTFLAGS="${RUSTFLAGS:-} -Clink-arg=-Wl,--unresolved-symbols=ignore-all"
build() { cargo rustc --release --locked -p "$package" --bin "$binary" --features cuda-nvrtc -- -C strip=symbols "$@"; }

build
out=$CARGO_TARGET_DIR/release/$binary
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm -D --undefined-only "$out" | awk '{print $2}' | grep -E '^LLVM|^cubecl_' | sort -u >"$work/symbols"
{ echo '#include <stdlib.h>'; sed 's/.*/void &(void) { abort(); }/' "$work/symbols"; } >"$work/stub.c"
mkdir -p "$CARGO_TARGET_DIR/stub"
cc -c -O1 "$work/stub.c" -o "$CARGO_TARGET_DIR/stub/llvm_stub.o"
build -C link-arg="$(realpath "$CARGO_TARGET_DIR")/stub/llvm_stub.o"
xz -T0 -3 -k -f "$out"
ls -l "$out" "$out.xz"
