#!/bin/bash
# Speed and memory, side by side with the Python peers in one run, on the same threads.
#
# usage: make bench, with
#   CONDENSE_SHARED  the folder of real models and texts
#   PEERS            a folder with the virtual environments `hf` (torch, transformers, tokenizers) and `llmc` (torch,
#                    llmcompressor); a peer that is not there is left out, and said so
#   RUNS             runs of each command (3); medians are printed
#   THREADS          threads of every tool (2)
set -euo pipefail
cd "$(dirname "$0")/.."
condense=.build/release/condense
shared=${CONDENSE_SHARED:?names the folder of real models and texts}
peers=${PEERS:-/nonexistent}
runs=${RUNS:-3}
threads=${THREADS:-2}
# An older core type set from outside would halve the speed of every tool on a machine with AVX-512.
unset OPENBLAS_CORETYPE PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS=$threads
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# measure NAME COMMAND...: wall seconds, CPU seconds and peak MB, medians over the runs.
measure() {
  local name=$1; shift
  rm -f "$work/times"
  for _ in $(seq "$runs"); do
    rm -rf "$work/out"
    /usr/bin/time -a -o "$work/times" -f "%e %U %S %M" "$@" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  done
  python3 - "$name" "$work/times" <<'PY'
import statistics, sys
rows = [list(map(float, line.split())) for line in open(sys.argv[2])]
wall = statistics.median(r[0] for r in rows)
cpu = statistics.median(r[1] + r[2] for r in rows)
peak = statistics.median(r[3] for r in rows) / 1024
print(f"{sys.argv[1]:44s} wall {wall:8.3f} s   CPU {cpu:8.3f} s   peak {peak:7.1f} MB", flush=True)
PY
}

echo "threads $threads, medians of $runs runs, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2)"

echo; echo "start"
measure "condense --help" "$condense" --help

echo; echo "eval, lm-29m, books-test, float32"
measure "condense eval" "$condense" eval "$shared/models/lm-29m" --text "$shared/data/books-test.txt" --threads "$threads"
if [ -x "$peers/hf/bin/python" ]; then
  measure "transformers, whole process" "$peers/hf/bin/python" scripts/peer_eval.py \
    "$shared/models/lm-29m" "$shared/data/books-test.txt" "$threads"
  echo "  of that: $(tail -1 "$work/log")"
else
  echo "transformers: left out, no virtual environment 'hf' in PEERS"
fi

echo; echo "GPTQ, all of lm-29m, int4 group 128 symmetric, 16,384 calibration tokens"
measure "condense quantize" "$condense" quantize "$shared/models/lm-29m" "$work/out" \
  --encoding int4-g128-sym --calibration "$shared/data/wikitext2-valid.txt" --tokens 16384 --threads "$threads"
if [ -x "$peers/llmc/bin/python" ]; then
  measure "llm-compressor, whole process" "$peers/llmc/bin/python" scripts/peer_gptq.py \
    "$shared/models/lm-29m" "$shared/data/wikitext2-valid.txt" 64 "$threads"
  echo "  of that: $(tail -1 "$work/log")"
else
  echo "llm-compressor: left out, no virtual environment 'llmc' in PEERS"
fi

echo; echo "bundle of lm-29m: open, and one token"
"$condense" quantize "$shared/models/lm-29m" "$work/q" --method rtn --encoding int4-g32 --quiet
"$condense" pack "$work/q" "$work/q.condensed" --quiet
measure "condense inspect" "$condense" inspect "$work/q.condensed"
measure "condense generate, 1 token" "$condense" generate "$work/q.condensed" --prompt "The" --tokens 1
measure "condense generate, 200 tokens" "$condense" generate "$work/q.condensed" --prompt "The" --tokens 200

echo; echo "tokenize, English, 18.7 MB"
measure "condense tokenize, one thread" "$condense" tokenize "$shared/models/lm-6m" --text "$shared/data/books-train.txt" --threads 1

echo; echo "training steps, lm-29m, batch 8 x 256, AdamW, float32"
measure "condense distill, whole process" "$condense" distill "$shared/models/lm-29m" "$work/out" \
  --text "$shared/data/books-calibration.txt" --tokens 20400 --validation-windows 1 --validations 1 \
  --learning-rate 1e-4 --progress jsonl --threads "$threads"
"$condense" distill "$shared/models/lm-29m" "$work/out" --text "$shared/data/books-calibration.txt" --tokens 20400 \
  --validation-windows 1 --validations 1 --learning-rate 1e-4 --progress jsonl --threads "$threads" --force 2>&1 |
  python3 scripts/step_times.py 2040
if [ -x "$peers/hf/bin/python" ]; then
  measure "PyTorch, whole process" "$peers/hf/bin/python" scripts/peer_train.py \
    "$shared/models/lm-29m" "$shared/data/books-calibration.txt" "$threads" 8 256 10
  echo "  of that: $(tail -1 "$work/log")"
else
  echo "PyTorch: left out, no virtual environment 'hf' in PEERS"
fi
