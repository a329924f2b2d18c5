#!/usr/bin/env bash
# Everything in one command: installs what is missing, builds, and runs the experiment to a verdict.
#
#   scripts/phase2b_quickstart.sh [--preflight] [--train] [--validate] [--sweep] [--identity] [--recipe FILE] [--jobs N] [-- ...]
#
# Without a part named it runs all of them: preflight, training (pairs, then stages), validation, the scale sweep and identity
# signatures. What is done already is skipped, so it can be stopped and started again at any time. The recipe is
# recipe/nano.yaml unless told otherwise: four to seven minutes on a CPU, nothing to download. What follows -- goes to
# `kvlingua quickstart` (--set a.b=c, --device, --out).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
say() { printf 'quickstart: %s\n' "$*" >&2; }
usage() {
  sed -n '2,9s/^# \{0,1\}//p' "$0"
}

parts=()
recipe=
jobs=$(nproc 2> /dev/null || echo 2)
while [ $# -gt 0 ]; do
  case $1 in
    --preflight | --train | --validate | --sweep | --identity) parts+=("$1") ;;
    --recipe | --jobs)
      [ $# -ge 2 ] || { say "$1 needs a value"; exit 2; }
      if [ "$1" = --recipe ]; then recipe=$2; else jobs=$2; fi
      shift
      ;;
    --recipe=*) recipe=${1#*=} ;;
    --jobs=*) jobs=${1#*=} ;;
    -h | --help)
      usage
      exit 0
      ;;
    --)
      shift
      break
      ;;
    *)
      say "unknown option $1; expected --preflight --train --validate --sweep --identity --recipe FILE --jobs N"
      exit 2
      ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || { say "--jobs: got $jobs, expected a positive number"; exit 2; }
recipe=${recipe:-$root/recipe/nano.yaml}
[ -f "$recipe" ] || [ -f "$root/$recipe" ] || { say "$recipe: no such recipe"; exit 2; }
[ -f "$recipe" ] || recipe=$root/$recipe
recipe=$(realpath "$recipe")

"$root/scripts/setup.sh"
# A memory of about 1.5 GB per compiler: fewer at a time where there is little.
if memory=$(awk '/MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo 2> /dev/null) && [ "$memory" -lt "$jobs" ]; then
  jobs=$((memory > 0 ? memory : 1))
fi
cd "$root"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ ! -f build/build.ninja ]; then
  say "configuring"
  cmake --preset release > "$log" 2>&1 || { cat "$log" >&2; exit 1; }
fi
say "building (first time: some minutes)"
cmake --build build --target kvlingua -j "$jobs" > "$log" 2>&1 || { tail -n 60 "$log" >&2; exit 1; }

exec build/bin/kvlingua quickstart "$recipe" ${parts[@]+"${parts[@]}"} "$@"
