#!/usr/bin/env bash
# Installs what kvlingua needs to build: Debian/Ubuntu packages and a libtorch. Safe to run again; says what it does.
#
#   scripts/setup.sh            packages by apt (root or sudo), then a libtorch into .deps/ unless there is one
#   KVLINGUA_DEPS=DIR           where to install instead of .deps/
#   KVLINGUA_TORCH_ROOT=DIR     use this libtorch (the folder that holds include/ and lib/)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
deps=${KVLINGUA_DEPS:-$root/.deps}
say() { printf 'setup: %s\n' "$*" >&2; }

packages=(g++ cmake ninja-build ccache pkg-config git ca-certificates python3 python3-pip python3-venv python3-numpy python3-scipy python3-h5py
  nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libfmt-dev libspdlog-dev libssl-dev libpcre2-dev libutf8proc-dev libzip-dev zlib1g-dev
  libhdf5-dev libprotobuf-dev protobuf-compiler libboost-dev libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev
  libgloo-dev liblinear-dev gnuplot-nox)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  command=(apt-get install -y --no-install-recommends "${missing[@]}")
  if ! command -v apt-get > /dev/null; then
    say "this is not Debian or Ubuntu; install the counterparts of: ${missing[*]}"
    exit 5
  elif [ "$(id -u)" = 0 ]; then
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    "${command[@]}" > /dev/null
  elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
    say "installing ${missing[*]} (sudo)"
    sudo apt-get update -qq
    sudo env DEBIAN_FRONTEND=noninteractive "${command[@]}" > /dev/null
  else
    say "an administrator must run:"
    say "  apt-get update && ${command[*]}"
    exit 5
  fi
else
  say "packages: all there"
fi

# ---- libtorch -------------------------------------------------------------------------------------------------------
if [ -n "${KVLINGUA_TORCH_ROOT:-}" ] && [ -e "$KVLINGUA_TORCH_ROOT/lib/libtorch_cpu.so" ]; then
  say "libtorch: $KVLINGUA_TORCH_ROOT (KVLINGUA_TORCH_ROOT)"
  exit 0
fi
if [ -e "$deps/site/torch/lib/libtorch_cpu.so" ] && [ -e "$deps/site/.complete" ]; then
  say "libtorch: $deps/site/torch"
  exit 0
fi
# An existing torch is preferred over a download; anything from 2.8 on serves.
if found=$(python3 -c 'import torch, os; v = tuple(int(x) for x in torch.__version__.split("+")[0].split(".")[:2]); assert v >= (2, 8); print(os.path.dirname(torch.__file__))' 2> /dev/null); then
  say "libtorch: $found (the torch of python3)"
  exit 0
fi

# Drivers decide: CUDA 13 needs driver 580 or newer; 2.10 is the last wheel built for CUDA 12.8.
torch=2.11.0
lean=(nvidia-cusparselt-cu13==0.8.0 nvidia-nvshmem-cu13==3.4.5 nvidia-cufile==1.15.1.6)
if command -v nvidia-smi > /dev/null && driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2> /dev/null | head -n 1); then
  if [ -n "$driver" ] && [ "${driver%%.*}" -lt 580 ]; then
    say "driver $driver runs CUDA 12 only: torch 2.10 instead of $torch"
    torch=2.10.0
    lean=()
  fi
fi
# The wheel's CUDA libraries are 2 GB; a toolkit that has them already saves the download.
toolkit=${CUDA_HOME:-/usr/local/cuda}
have_toolkit=yes
for library in libcublas.so.13 libcudart.so.13 libcupti.so.13 libcusparse.so.12 libcusolver.so.12 libcufft.so.12 libcurand.so.10 libnvrtc.so.13 libcudnn.so.9 libnccl.so.2; do
  ldconfig -p | grep -q "$library" || ls "$toolkit"/lib64/"$library" > /dev/null 2>&1 || { have_toolkit=no; break; }
done
python=python3
if ! $python -m pip --version > /dev/null 2>&1; then
  python3 -m venv "$deps/venv"
  python="$deps/venv/bin/python"
fi
rm -rf "$deps/site"
mkdir -p "$deps"
if [ "$have_toolkit" = yes ] && [ ${#lean[@]} -gt 0 ]; then
  say "libtorch: torch $torch into $deps/site (lean: CUDA libraries come from $toolkit; 760 MB)"
  $python -m pip install -q --no-deps --target "$deps/site" "torch==$torch" "${lean[@]}"
else
  say "libtorch: torch $torch with its CUDA libraries into $deps/site (2.7 GB)"
  $python -m pip install -q --target "$deps/site" "torch==$torch"
fi
touch "$deps/site/.complete"
