#!/usr/bin/env bash
# Benchmarks beside the peer, same work in the same run. Results belong into BENCHMARKS.md.
#   scripts/bench.sh prefill|decode|load [--models smollm2,qwen3,qwen2] [--batch 1,8] [--tokens 256,1024] [--repeat 5] [--budget SECONDS]
#                          [--device cuda --dtype bfloat16]
#   scripts/bench.sh ridge|regression [--rows N] [--steps N] [--hidden N] [--rounds N]
#   scripts/bench.sh generate [--source DIR --target DIR] [--documents N] [--batch-tokens N] [--writers N] [--shard-bytes N] [--repeat N]
#   scripts/bench.sh evaluate [--model DIR] [--items N] [--tokens N] [--no-peer]
#   scripts/bench.sh c2c-step [--preset nano|real] [--batch N] [--seq N] [--accum N] [--steps N] [--device cuda --dtype bfloat16]
#   scripts/bench.sh peer RECIPE [--out DIR] [--top-k N] [--set a.b=c]     ridge beside aither-kvcache 2.4.1 on a generated pair set
#   scripts/bench.sh gpu [--device cuda] [--models DIR] [--minutes 8] [--only tests,nano,pair,c2c,prefill,decode]   one table for a card; builds nothing
#   KVLINGUA_C2C            a Cache-to-Cache source tree, for c2c-step; its transformers is 4.52.4
#   KVLINGUA_BENCH_PYTHON   a python with torch and transformers (default python3)
#   KVLINGUA_MODELS         where smollm2-135m-instruct may lie (else random weights of its shape)
#   OMP_NUM_THREADS         threads of both sides (default: all)
#   KVLINGUA_BENCH_CLOCK    cpu: processor time instead of the wall's, on a machine with other work (one thread only)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${KVLINGUA_BUILD:-$root/build}
python=${KVLINGUA_BENCH_PYTHON:-python3}
case "${1:-}" in
  prefill | decode | load)
    [ -x "$build/bin/bench_model" ] || cmake --build "$build" --target bench_model >&2
    exec "$python" "$root/scripts/bench/model.py" "$1" "$build/bin/bench_model" "${@:2}"
    ;;
  ridge | regression)
    [ -x "$build/bin/bench_train" ] || cmake --build "$build" --target bench_train >&2
    exec "$python" "$root/scripts/bench/train.py" "$1" "$build/bin/bench_train" "${@:2}"
    ;;
  c2c-step)
    [ -x "$build/bin/bench_c2c" ] || cmake --build "$build" --target bench_c2c >&2
    exec "$python" "$root/scripts/bench/c2c.py" "$build/bin/bench_c2c" "${@:2}"
    ;;
  generate)
    cmake --build "$build" --target bench_generate >&2
    exec "$build/bin/bench_generate" "${@:2}"
    ;;
  evaluate)
    cmake --build "$build" --target bench_evaluate >&2
    exec "$python" "$root/scripts/bench/evaluate.py" "$build/bin/bench_evaluate" "${@:2}"
    ;;
  gpu)
    exec "$python" "$root/scripts/bench/gpu.py" "$build/bin" "${@:2}"
    ;;
  peer)
    exec "$python" "$root/scripts/bench/peer.py" "$build/bin/kvlingua" "${@:2}"
    ;;
  *)
    sed -n '2,14s/^# \?//p' "$0" >&2
    exit 2
    ;;
esac
