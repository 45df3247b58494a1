#!/usr/bin/env bash
# Proves that Keras loads the files that we write after compression and computes with them what we compute. Not part
# of `make test`: it needs Keras 3.
#
# usage: PYTHON=python3 keras.sh MODEL.h5 MODEL.keras …        (KERAS_BACKEND names Keras's backend)
set -euo pipefail
: "${PYTHON:?}"
here=$(cd "$(dirname "$0")" && pwd)
condense=${CONDENSE:-$here/../../.build/release/condense}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
echo "| model | bytes | bundle | written for Keras | largest difference from Keras |"
echo "|---|---|---|---|---|"
for model in "$@"; do
  "$condense" quantize "$model" "$work/q" --method rtn --encoding int8-g32 --quiet
  "$condense" pack "$work/q" "$work/q.condensed" --quiet
  written="$work/q.h5"
  case "$model" in *.keras) written="$work/q.keras" ;; esac
  "$condense" convert "$work/q" "$written" --quiet
  difference=$("$PYTHON" "$here/keras_outputs.py" "$work/q.condensed" "$written" 2>"$work/log") || {
    echo "FAILED: $model" >&2
    tail -3 "$work/log" >&2
    failures=$((failures + 1))
  }
  echo "| $(basename "$model") | $(stat -c %s "$model") | $(stat -c %s "$work/q.condensed") |" \
    "$(stat -c %s "$written") | ${difference:-none} |"
  rm -r "${work:?}"/q*
done
[ "$failures" -eq 0 ] || { echo "$failures models failed" >&2; exit 1; }
