#!/usr/bin/env bash
# From a bare machine to all tests passed: sets up, builds, runs every test but those labelled gpu, real and slow.
#   scripts/test.sh [ctest arguments]        e.g.  scripts/test.sh -R unit_text
set -euo pipefail
case ${1:-} in
  -h | --help)
    sed -n '2,3s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
bash scripts/setup.sh
jobs=${KVLINGUA_JOBS:-$(nproc)}
cmake --preset release > build.log 2>&1 || { cat build.log; exit 1; }
cmake --build build -j "$jobs" > build.log 2>&1 || { tail -n 100 build.log; exit 1; }
rm -f build.log
ctest --test-dir build --output-on-failure -LE 'gpu|real|slow' "$@"
