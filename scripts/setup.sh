#!/bin/sh
# Installs the system libraries that the build needs, where it can; says what is missing where it cannot.
set -eu

packages="libopenblas-dev liblapacke-dev libhdf5-dev zlib1g-dev libpng-dev libturbojpeg0-dev pkg-config"

if ! command -v swift >/dev/null 2>&1; then
  echo "Error: swift is not on the PATH; install Swift 6.3 or later from https://www.swift.org/install" >&2
  exit 69
fi

missing=""
command -v pkg-config >/dev/null 2>&1 || missing="pkg-config"
if [ -z "$missing" ]; then
  for library in openblas lapacke hdf5 zlib libpng libturbojpeg; do
    pkg-config --exists "$library" || missing="$missing $library"
  done
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "Error: missing:$missing; install OpenBLAS, LAPACKE, HDF5, zlib, libpng and TurboJPEG with their headers, and pkg-config" >&2
  exit 69
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    echo "Error: missing:$missing; as root, run: apt-get install $packages" >&2
    exit 69
  fi
  as_root="sudo"
fi
echo "installing$missing through apt-get"
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null
