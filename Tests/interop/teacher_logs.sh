#!/usr/bin/env bash
# Teacher logs in other programs' hands: h5py reads ours from its document, and llama.cpp's server answers our
# questions. Not part of `make test`.
#
# usage: MODEL=CHECKPOINT TEXT=FILE [LLAMA_BIN=DIR] [PYTHON=python3] teacher_logs.sh
#   LLAMA_BIN    folder of llama-server; left out, that part is skipped
#   PYTHON       an interpreter with h5py; where it has none, that part is skipped
set -euo pipefail
: "${MODEL:?}" "${TEXT:?}"
here=$(cd "$(dirname "$0")" && pwd)
condense=${CONDENSE:-$here/../../.build/release/condense}
python=${PYTHON:-python3}
work=$(mktemp -d)
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
number() { sed -n "s/.*\"$1\": \([-0-9.e]*\).*/\1/p" | head -1; }
close() { # name, a, b, tolerance
  awk "BEGIN { d = $2 - $3; exit !(d * d <= $4 * $4) }" || { echo "FAILED: $1: $2 and $3" >&2; exit 1; }
  echo "$1: $2 and $3"
}

if "$python" -c 'import h5py' 2>/dev/null; then
  "$condense" teacher-log "$MODEL" "$work/l.h5" --text "$TEXT" --tokens 16384 --quiet
  "$python" "$here/read_teacher_log.py" "$work/l.h5" > "$work/read.json"
  ours=$("$condense" eval "$MODEL" --teacher-log "$work/l.h5" --json | number perplexity)
  close "perplexity by h5py and by eval" "$(number perplexity < "$work/read.json")" "$ours" 0.01
  close "mass of the list, sampled less exact" "$(number sampled_less_listed_mass < "$work/read.json")" 0 0.003
else
  echo "skipped: $python has no h5py"
fi

[ -n "${LLAMA_BIN:-}" ] || { echo "skipped: LLAMA_BIN is not set"; exit 0; }
"$condense" pack "$MODEL" "$work/m.gguf" --format gguf --quiet
port=$((20000 + $$ % 20000))
"$LLAMA_BIN/llama-server" -m "$work/m.gguf" --host 127.0.0.1 --port $port -c 1024 -np 2 -t 1 > "$work/server.log" 2>&1 &
server=$!
head -c 4000 "$TEXT" | tr '\n' ' ' | fold -s -w 60 | head -20 > "$work/prompts.txt"
for api in completions chat; do
  "$condense" collect --endpoint "http://127.0.0.1:$port/v1" --model m --prompts "$work/prompts.txt" \
    --api $api --max-tokens 40 --top-k 10 --concurrency 2 --seed 1 --attempts 12 "$work/$api.jsonl"
  [ "$(wc -l < "$work/$api.jsonl")" = "$(sort -u "$work/prompts.txt" | grep -c .)" ] || { echo "FAILED: $api: answers are missing" >&2; exit 1; }
  "$condense" teacher-log "$work/$api.h5" --from-api "$work/$api.jsonl" --student "$MODEL" --json > "$work/$api.json"
  grep -E '"(listed_rows|sequence_level_rows|unaligned_rows|dropped_entries|dropped_mass|unreadable_answers)"' "$work/$api.json"
done
# The same model on both sides: the server's probabilities are ours, up to the rounding of its weights.
"$condense" eval "$MODEL" --teacher-log "$work/completions.h5" --json > "$work/eval.json"
close "perplexity ratio against llama-server" "$(number perplexity_ratio < "$work/eval.json")" 1 0.02
close "KL bound against llama-server" "$(grep -A1 kl_lower_bound "$work/eval.json" | number mean)" 0 0.01
