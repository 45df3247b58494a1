#!/usr/bin/env bash
# Proves that other engines load what we write, and that we read what they write. Not part of `make test`: it
# needs a build of llama.cpp and takes some minutes. Prints the tables of docs/interop.md.
#
# usage: LLAMA_BIN=DIR MODEL=CHECKPOINT TEXT=FILE CALIBRATION=FILE [PYTHON=python3] [CHUNKS=48] run.sh
#   LLAMA_BIN    folder of llama-quantize, llama-perplexity, llama-imatrix, llama-tokenize, llama-completion
#   PYTHON       an interpreter with torch, transformers and compressed-tensors; left out, that part is skipped
set -euo pipefail
: "${LLAMA_BIN:?}" "${MODEL:?}" "${TEXT:?}" "${CALIBRATION:?}"
here=$(cd "$(dirname "$0")" && pwd)
condense=${CONDENSE:-$here/../../.build/release/condense}
chunks=${CHUNKS:-48}
threads=${THREADS:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset OPENBLAS_CORETYPE
failures=0
fail() { echo "FAILED: $*" >&2; failures=$((failures + 1)); }

ours() { # perplexity of a model in our own forward pass
  "$condense" eval "$1" --text "$TEXT" --context 256 --score half --windows "$chunks" --json --threads "$threads" |
    sed -n 's/.*"perplexity": \([0-9.]*\).*/\1/p' | head -1
}
theirs() { # the same of llama.cpp
  "$LLAMA_BIN/llama-perplexity" -m "$1" -f "$TEXT" -c 256 -b 2048 --chunks "$chunks" -t "$threads" 2>&1 |
    sed -n 's/.*Final estimate: PPL = \([0-9.]*\).*/\1/p'
}
row() { # type, file, side
  local a b
  a=$(ours "$2")
  b=$(theirs "$2")
  if [ -z "$b" ]; then fail "$3 $1: llama.cpp does not run it"; b=nan; fi
  local difference
  difference=$(awk "BEGIN { printf \"%.4f\", ($a - $b) / $b * 100 }")
  awk "BEGIN { d = ($a - $b) / $b; exit !(d * d <= 1e-6) }" || fail "$3 $1: $a here, $b there"
  echo "| $1 | $(stat -c %s "$2") | $a | $b | $difference % |"
}

"$condense" convert "$MODEL" "$work/f32.gguf" --dtype f32 --quiet
"$condense" convert "$MODEL" "$work/F16.gguf" --dtype f16 --quiet
"$LLAMA_BIN/llama-imatrix" -m "$work/f32.gguf" -f "$CALIBRATION" -o "$work/imatrix.gguf" -c 256 --chunks 64 \
  -t "$threads" >"$work/imatrix.log" 2>&1

types="Q8_0 Q6_K Q5_K_M Q4_K_M Q4_0 IQ4_XS Q3_K_M IQ3_S Q2_K IQ2_XS TQ2_0 MXFP4"
echo "## Files that we wrote, in llama.cpp"
echo
echo "| type | bytes | perplexity here | llama-perplexity | difference |"
echo "|---|---|---|---|---|"
row F16 "$work/F16.gguf" "our"
for type in $types; do
  "$condense" quantize "$MODEL" "$work/$type" --method rtn --imatrix "$work/imatrix.gguf" --encoding "$type" --quiet
  "$condense" pack "$work/$type" "$work/$type.gguf" --format gguf --quiet
  row "$type" "$work/$type.gguf" "our"
  rm -r "${work:?}/$type" "$work/$type.gguf"
done

echo
echo "## Files that llama-quantize wrote, here"
echo
echo "| type | bytes | perplexity here | llama-perplexity | difference |"
echo "|---|---|---|---|---|"
for type in F16 $types; do
  options=("--imatrix" "$work/imatrix.gguf")
  name=$type
  if [ "$type" = MXFP4 ]; then # llama-quantize has no such file type for dense models
    options+=("--tensor-type" "blk=mxfp4")
    name=Q8_0
  fi
  "$LLAMA_BIN/llama-quantize" "${options[@]}" "$work/f32.gguf" "$work/l.gguf" "$name" "$threads" \
    >"$work/quantize.log" 2>&1 || { fail "llama-quantize $type"; continue; }
  row "$type" "$work/l.gguf" "their"
done

echo
echo "## Tokens and text"
echo
for text in "$TEXT" "$CALIBRATION"; do
  "$condense" tokenize "$work/F16.gguf" --text "$text" | tr ' ' '\n' >"$work/ours.ids"
  "$LLAMA_BIN/llama-tokenize" -m "$work/F16.gguf" -f "$text" --ids --no-bos --log-disable 2>/dev/null |
    tr -d '[] ' | tr ',' '\n' >"$work/their.ids"
  count=$(wc -l <"$work/ours.ids")
  if cmp -s "$work/ours.ids" "$work/their.ids"; then
    echo "- $(basename "$text"): $count ids equal llama-tokenize's"
  else
    fail "tokens of $text: $(diff "$work/ours.ids" "$work/their.ids" | grep -c '^<') of $count differ"
  fi
done
for prompt in "The king" "In the beginning of the year" "She said that"; do
  "$condense" generate "$work/F16.gguf" --prompt "$prompt" --tokens 64 >"$work/ours.txt"
  "$LLAMA_BIN/llama-completion" -m "$work/F16.gguf" -p "$prompt" -n 64 --temp 0 -t "$threads" -no-cnv \
    --no-warmup --ignore-eos 2>/dev/null </dev/null >"$work/their.txt" || true
  if [ "$(sed -e 's/[[:space:]]*$//' "$work/ours.txt")" = "$(sed -e 's/[[:space:]]*$//' "$work/their.txt")" ]; then
    echo "- 64 tokens after \"$prompt\", greedy: equal text"
  else
    fail "text after '$prompt' differs"
    diff "$work/ours.txt" "$work/their.txt" >&2 || true
  fi
done

if [ -n "${PYTHON:-}" ]; then
  echo
  echo "## compressed-tensors, in transformers"
  echo
  echo "| encoding | largest difference of a logit | logits |"
  echo "|---|---|---|"
  for encoding in int4-g32 int4-g128-sym int3-g64 int2-g32 int8-channel-sym int8-g128 int5-channel; do
    "$condense" quantize "$MODEL" "$work/q" --method rtn --encoding "$encoding" --quiet
    "$condense" pack "$work/q" "$work/ct" --format compressed-tensors --dtype f32 --quiet
    "$PYTHON" "$here/compressed_tensors_logits.py" "$condense" "$work/q" "$work/ct" "$TEXT" "$encoding" \
      2>"$work/python.log" || { fail "compressed-tensors $encoding"; tail -3 "$work/python.log" >&2; }
    rm -r "$work/q" "$work/ct"
  done
fi

[ "$failures" -eq 0 ] || { echo "$failures checks failed" >&2; exit 1; }
