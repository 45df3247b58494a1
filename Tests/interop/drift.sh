#!/usr/bin/env bash
# Drift of our GGUF beside llama-quantize's: the same model, types, importance matrix and text, measured by
# llama-perplexity --kl-divergence. Prints the table of docs/performance.md.
#
# usage: LLAMA_BIN=DIR MODEL=CHECKPOINT TEXT=FILE CALIBRATION=FILE [TYPES="Q4_K_M …"] [METHODS="rtn gptq"] drift.sh
set -euo pipefail
: "${LLAMA_BIN:?}" "${MODEL:?}" "${TEXT:?}" "${CALIBRATION:?}"
here=$(cd "$(dirname "$0")" && pwd)
condense=${CONDENSE:-$here/../../.build/release/condense}
chunks=${CHUNKS:-96}
threads=${THREADS:-2}
methods=${METHODS:-rtn gptq}
types=${TYPES:-Q6_K Q5_K_M Q5_K_S Q4_K_M Q4_K_S Q3_K_M Q3_K_S Q2_K IQ4_XS IQ3_S}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset OPENBLAS_CORETYPE

kl() {
  "$LLAMA_BIN/llama-perplexity" -m "$1" -f "$TEXT" -c 256 -b 2048 --chunks "$chunks" -t "$threads" \
    --kl-divergence-base "$work/base.kld" --kl-divergence 2>&1 | grep -E '^Mean +KLD' | sed 's/±.*//' | awk '{print $NF}'
}
"$condense" convert "$MODEL" "$work/f32.gguf" --dtype f32 --quiet
"$LLAMA_BIN/llama-imatrix" -m "$work/f32.gguf" -f "$CALIBRATION" -o "$work/imatrix.gguf" -c 256 --chunks 256 \
  -t "$threads" >"$work/log" 2>&1
"$LLAMA_BIN/llama-perplexity" -m "$work/f32.gguf" -f "$TEXT" -c 256 -b 2048 --chunks "$chunks" -t "$threads" \
  --kl-divergence-base "$work/base.kld" >"$work/log" 2>&1

printf '| type | bytes, llama-quantize | KL |'
for method in $methods; do printf ' bytes, %s | KL | ratio |' "$method"; done
printf '\n|---|---|---|'
for method in $methods; do printf -- '---|---|---|'; done
echo
for type in $types; do
  "$LLAMA_BIN/llama-quantize" --imatrix "$work/imatrix.gguf" "$work/f32.gguf" "$work/l.gguf" "$type" "$threads" \
    >"$work/log" 2>&1
  theirs=$(kl "$work/l.gguf")
  printf '| %s | %s | %s |' "$type" "$(stat -c %s "$work/l.gguf")" "$theirs"
  for method in $methods; do
    if [ "$method" = rtn ]; then
      options=(--imatrix "$work/imatrix.gguf")
    else
      options=(--calibration "$CALIBRATION" --tokens 65536)
    fi
    "$condense" quantize "$MODEL" "$work/q" --method "$method" "${options[@]}" --encoding "$type" --quiet
    "$condense" pack "$work/q" "$work/q.gguf" --format gguf --quiet
    ours=$(kl "$work/q.gguf")
    printf ' %s | %s | %s |' "$(stat -c %s "$work/q.gguf")" "$ours" "$(awk "BEGIN { printf \"%.3f\", $ours / $theirs }")"
    rm -r "${work:?}/q" "$work/q.gguf"
  done
  echo
done
