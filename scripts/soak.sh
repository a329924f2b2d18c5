#!/usr/bin/env bash
# usage: scripts/soak.sh KILLS [RECIPE] [PROCESSES]
# Kills a small run of the whole pipeline (generate, train, evaluate) at random moments, KILLS times in all, lets each run
# come to its end, and compares what came out with a run that nobody disturbed: pair set, checkpoints and answers, bit for
# bit (ridge draws nothing, so the generator it saves is whatever it was). KVLINGUA names the program (build/bin/kvlingua); SEED the moments (1); WORK a folder that is kept.
# PROCESSES > 1: generate under so many ranks, of which one is killed at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:?usage: scripts/soak.sh KILLS [RECIPE] [PROCESSES]} recipe=${2:-recipe/nano.yaml} processes=${3:-1}
program=${KVLINGUA:-build/bin/kvlingua}
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
RANDOM=${SEED:-1}
export OMP_NUM_THREADS=1
small=(--set data.synthetic.documents=80 --set data.shard_bytes=1MiB --set data.batch_tokens=512
  --set train.regression.batch.steps=24 --set train.regression.batch.size=128 --set train.distillation.batch.steps=6
  --set train.distillation.items=24 --set checkpoint.every=2 --set train.log_every=100 --set eval.items=4
  --set "eval.families=[identity]" --set "eval.conditions=[baseline,full_text,same_cache,ridge,mlp,distilled]")

# What must be the same bits: shards, weights, answers (without the time each took).
print_of() {
  (cd "$1" && sha256sum datasets/*/shard-*.h5 && sha256sum checkpoints/*/ridge/projector.safetensors && for stage in regression distillation; do
    sha256sum checkpoints/*/$stage/projector.safetensors checkpoints/*/$stage/optimizer.safetensors
  done && python3 - checkpoints/*/eval/generations.jsonl <<'P'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])][1:]
for row in sorted((r for r in rows if "text" in r), key=lambda r: (r.get("condition", ""), r.get("item", ""))):
    print(row.get("condition"), row.get("item"), repr(row["text"]))
P
  )
}

# One verb until it ends by itself; a gate that is not met (3) is an end too.
verb() { # out, kill?, verb
  local out=$1 kill=$2 name=$3 code pid
  while :; do
    if [ "$name" = generate ] && [ "$processes" -gt 1 ]; then
      local pids=()
      for rank in $(seq 0 $((processes - 1))); do
        RANK=$rank WORLD_SIZE=$processes LOCAL_RANK=0 "$program" generate "$recipe" "${small[@]}" --out "$out" -q > /dev/null 2>> "$work/log" & pids+=($!)
      done
      pid=${pids[$((RANDOM % processes))]}
    else
      "$program" "$name" "$recipe" "${small[@]}" --out "$out" -q > /dev/null 2>> "$work/log" & pid=$!
    fi
    if [ "$kill" = yes ] && [ "$done_kills" -lt "$kills" ]; then
      sleep "$((RANDOM % 3)).$((RANDOM % 1000))"
      if kill -9 "$pid" 2> /dev/null; then done_kills=$((done_kills + 1)); fi
    fi
    code=0; wait "$pid" || code=$?
    for other in "${pids[@]:-}"; do [ -z "$other" ] || wait "$other" 2> /dev/null || true; done
    [ "$code" = 137 ] && continue
    [ "$code" = 0 ] || { [ "$name" = evaluate ] && [ "$code" = 3 ]; } && return
    echo "$name ended with $code: $(tail -1 "$work/log")"; exit 1
  done
}

done_kills=0 rounds=0
for name in generate train evaluate; do verb "$work/calm" no "$name"; done
print_of "$work/calm" > "$work/calm.sums"
while [ "$done_kills" -lt "$kills" ]; do
  rm -rf "$work/killed"
  for name in generate train evaluate; do verb "$work/killed" yes "$name"; done
  print_of "$work/killed" > "$work/killed.sums"
  rounds=$((rounds + 1))
  cmp -s "$work/calm.sums" "$work/killed.sums" || { diff "$work/calm.sums" "$work/killed.sums" | head; echo "differs after $done_kills kills, round $rounds"; exit 1; }
  echo "$done_kills kills, $rounds rounds: the same bits"
done
