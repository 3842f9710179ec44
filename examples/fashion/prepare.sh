#!/bin/sh
# Unpacks what Debian's dataset-fashion-mnist brings, beside the job files that read it.
cd "$(dirname "$0")" || exit 1
for name in train-images-idx3 train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do
  gunzip -c "${1:-/usr/share/datasets/fashion-mnist}/$name-ubyte.gz" > "$name-ubyte"
done
