#!/usr/bin/env bash
# The shipped tiny models on two CPU cores, from nothing: pictures, autoencoder, latents, M2M-Self, M2M-DINO, probe.
# Every command continues where it was cut off, so the script can be stopped and started again at any time.
#   recipes/tiny_cpu.sh            about four hours
#   MINUTES=10 recipes/tiny_cpu.sh a short look at each stage
set -euo pipefail
cd "$(dirname "$0")/.."
M2M=${M2M:-.venv/bin/m2m}
RUNS=${RUNS:-runs}
MINUTES=${MINUTES:-90}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

"$M2M" data world --sets 6000 --images 5 --keep-images --workers 2 --out "$RUNS/data/pictures"
"$M2M" data world --split validation --sets 200 --images 5 --keep-images --out "$RUNS/data/validation-pictures"
"$M2M" train-autoencoder --config configs/tiny/autoencoder.yaml out="$RUNS/autoencoder" data="$RUNS/data/pictures" \
    validation="$RUNS/data/validation-pictures" export="$RUNS/autoencoder/export"
"$M2M" data world --sets 6000 --images 5 --workers 2 --autoencoder "$RUNS/autoencoder/export" \
    --features efficientnet-lite0 --out "$RUNS/data/train"
"$M2M" data world --split validation --sets 8 --images 8 --keep-images --autoencoder "$RUNS/autoencoder/export" \
    --features efficientnet-lite0 --out "$RUNS/data/validation"
for variant in self dino; do
    "$M2M" train --config "configs/tiny/$variant.yaml" out="$RUNS/$variant" data="$RUNS/data/train" \
        validation="$RUNS/data/validation" autoencoder="$RUNS/autoencoder/export" minutes="$MINUTES" \
        export="$RUNS/$variant/model"
done
"$M2M" train-probe --config configs/tiny/probe.yaml out="$RUNS/probe"
