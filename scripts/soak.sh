#!/usr/bin/env bash
# usage: scripts/soak.sh KILLS [PROCESSES] [RECIPE]
# Kills a small run of the whole pipeline (generate, train, evaluate) with -9 at random moments, KILLS times in all, lets each
# run come to its end, and compares what came out with a run that nobody disturbed: pair set, losses, weights, training states,
# every answer and the report, bit for bit (ridge draws nothing, so the generator it saves is whatever it was). Says at the end
# which stage was hit how often.
# PROCESSES > 1: every verb under so many processes as torchrun starts them. One of them is killed, one time in four all; those
# that are left must end by themselves, or at SIGTERM where they still wait for the others to come, as torchrun sends it.
# KVLINGUA names the program (build/bin/kvlingua); SEED the moments (1); WORK a folder that is kept; PORT the first of 2000 ports.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:?usage: scripts/soak.sh KILLS [PROCESSES] [RECIPE]} processes=${2:-1} recipe=${3:-recipe/nano.yaml}
program=${KVLINGUA:-build/bin/kvlingua}
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
seed=${SEED:-1} port=${PORT:-21000} first_port=${PORT:-21000}
RANDOM=$seed
export OMP_NUM_THREADS=1 NO_COLOR=1
small=(--set data.synthetic.documents=40 --set data.max_length=96 --set data.shard_bytes=1MiB --set data.batch_tokens=256
  --set projector.ridge.previous_tokens=0 --set projector.mlp.hidden=16 --set checkpoint.every=2
  --set train.regression.batch.steps=12 --set train.regression.batch.size=64 --set train.distillation.batch.steps=6
  --set train.distillation.batch.size=4 --set train.distillation.items=16 --set train.distillation.held_out=8
  --set train.distillation.validate_every=3 --set train.log_every=1 --set eval.items=4 --set "eval.families=[identity]"
  --set "eval.conditions=[baseline,full_text,same_cache,ridge,mlp,distilled]")

# What must be the same bits.
print_of() {
  (cd "$1" && sha256sum datasets/*/shard-*.h5 checkpoints/*/ridge/projector.safetensors \
    checkpoints/*/{regression,distillation}/{projector,optimizer}.safetensors && python3 - checkpoints/*/ <<'P'
import json, pathlib, sys
run = pathlib.Path(sys.argv[1])
def bare(value):  # without what no run repeats: times, memory, places
    changing = {"latency", "run", "checkpoint", "checkpoints", "folder", "time", "tokens_per_second", "milliseconds", "memory_bytes", "definition"}
    if isinstance(value, dict):
        return {k: bare(v) for k, v in value.items() if k not in changing and not k.endswith("seconds")}
    return [bare(v) for v in value] if isinstance(value, list) else value
for line in sorted((run / "eval/generations.jsonl").read_text().splitlines()):
    print("answer", json.dumps(bare(json.loads(line))))
for line in (run / "metrics.jsonl").read_text().splitlines():
    print("metrics", json.dumps(bare(json.loads(line))))
for key, value in sorted(bare(json.loads((run / "eval/report.json").read_text())).items()):
    print("report", key, json.dumps(value))
P
  )
}

# The stage that a process was in, by the last it said.
stage_of() { # verb, log
  awk -v verb="$1" '
    BEGIN { stage = "start" }
    verb == "generate" && / plan / { stage = "shards" }
    verb == "generate" && / samples in / { stage = "end" }
    verb == "train" && /^[IW] [^ ]+ (ridge: |distillation  )/ { stage = "ridge" }
    verb == "train" && /^[IW] [^ ]+ regression: / { stage = "regression" }
    verb == "train" && /^[IW] [^ ]+ distillation: / { stage = "distillation" }
    verb == "evaluate" && /report: / { stage = "end" }
    END { print verb, stage }' "$2"
}

start() { # verb, out: starts the processes of one try
  local rank
  pids=()
  port=$((port + 1)); [ "$port" -lt $((first_port + 2000)) ] || port=$first_port
  for rank in $(seq 0 $((processes - 1))); do
    if [ "$processes" -gt 1 ]; then
      RANK=$rank WORLD_SIZE=$processes LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
        "$program" "$1" "$recipe" "${small[@]}" --out "$2" > /dev/null 2> "$work/log.$rank" & pids+=($!)
    else
      "$program" "$1" "$recipe" "${small[@]}" --out "$2" > /dev/null 2> "$work/log.0" & pids+=($!)
    fi
  done
}

hurt() { # verb, out, longest: kills one process, or all, at a random moment up to so many milliseconds from now
  local victim=$((RANDOM % processes)) all=$((RANDOM % 4)) wait_ms=$((RANDOM % $3 + 1)) late=$((RANDOM % 2)) stage
  declare -A begins=([generate]=" plan " [train]="distillation  ")
  # One time in two only once it works: starting takes longest on a busy machine.
  if [ "$late" = 1 ] && [ -n "${begins[$1]:-}" ]; then
    while kill -0 "${pids[0]}" 2> /dev/null && [[ $(< "$work/log.0") != *"${begins[$1]}"* ]]; do sleep 0.05; done
    wait_ms=$((wait_ms / 4 + 1))
  fi
  sleep "$((wait_ms / 1000)).$(printf %03d $((wait_ms % 1000)))"
  [ "$all" = 0 ] && [ "$processes" -gt 1 ] && { kill -9 "${pids[@]}" 2> /dev/null || true; } || kill -9 "${pids[$victim]}" 2> /dev/null || return 0
  done_kills=$((done_kills + 1))
  stage=$(stage_of "$1" "$work/log.$victim")
  # Answers are written as they come; nothing is said of them.
  [ "$stage" = "evaluate start" ] && [ -s "$(echo "$2"/checkpoints/*/eval/generations.jsonl)" ] && stage="evaluate answers"
  echo "$stage" >> "$work/kills"
}

# One verb until it ends by itself in all its processes; a gate that is not met (3) is an end too.
verb() { # verb, out, longest (0: nobody kills)
  local code worst killed
  while :; do
    start "$1" "$2"
    [ "$3" -gt 0 ] && [ "$done_kills" -lt "$kills" ] && hurt "$1" "$2" "$3"
    worst=0 killed=no
    ( for second in $(seq 300); do
        sleep 1
        [ "$processes" = 1 ] || for rank in $(seq 0 $((processes - 1))); do
          [[ $(tail -n 1 "$work/log.$rank") != *"waiting "* ]] || [ "$second" -lt 3 ] || kill -TERM "${pids[$rank]}"
        done
      done; echo hang >> "$work/hangs"; kill -9 "${pids[@]}" ) > /dev/null 2>&1 & local guard=$!
    for pid in "${pids[@]}"; do
      code=0; wait "$pid" 2> /dev/null || code=$?
      [ "$code" = 137 ] && killed=yes
      [ "$code" = 0 ] || { [ "$1" = evaluate ] && [ "$code" = 3 ]; } || worst=$code
    done
    kill "$guard" 2> /dev/null || true; wait "$guard" 2> /dev/null || true
    [ ! -s "$work/hangs" ] || { echo "$1: processes did not end within five minutes of a kill"; tail -n 3 "$work"/log.*; exit 1; }
    [ "$killed" = yes ] && continue
    [ "$worst" = 0 ] && return
    # A machine so busy that a process was silent for 15 s: told apart from a fault, and tried again.
    grep -qhE "not (been heard|answer)|another process of this run has stopped" "$work"/log.* && { echo "$1 silent" >> "$work/silent"; continue; }
    echo "$1 ended with $worst after $done_kills kills: $(tail -qn 1 "$work"/log.*)"; exit 1
  done
}

exec 3>&2 2> "$work/shell.log"  # the shell says of each process that it was killed
done_kills=0 rounds=0
rm -rf "$work"/{calm,killed,kills,hangs,silent}
declare -A longest
for name in generate train evaluate; do
  begin=$(date +%s%3N)
  verb "$name" "$work/calm" 0
  longest[$name]=$(($(date +%s%3N) - begin))
done
print_of "$work/calm" > "$work/calm.print"
while [ "$done_kills" -lt "$kills" ]; do
  rm -rf "$work/killed"
  for name in generate train evaluate; do verb "$name" "$work/killed" "${longest[$name]}"; done
  print_of "$work/killed" > "$work/killed.print"
  rounds=$((rounds + 1))
  cmp -s "$work/calm.print" "$work/killed.print" || { diff "$work/calm.print" "$work/killed.print" | cut -c1-300 | head; echo "differs after $done_kills kills, round $rounds"; exit 1; }
  echo "$done_kills kills, $rounds rounds: the same bits"
done
sort "$work/kills" | uniq -c
