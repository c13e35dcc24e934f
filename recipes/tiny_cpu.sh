#!/usr/bin/env bash
# The shipped tiny models on two CPU cores, from nothing: autoencoder, latents, M2M-Self, M2M-DINO, probe.
# Every command continues where it was cut off, so the script can be stopped and started again at any time.
#   recipes/tiny_cpu.sh            about four hours
#   MINUTES=10 recipes/tiny_cpu.sh a short look at each stage
set -euo pipefail
cd "$(dirname "$0")/.."
M2M=${M2M:-.venv/bin/m2m}
RUNS=${RUNS:-runs}
MINUTES=${MINUTES:-90}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

"$M2M" train-autoencoder --config configs/tiny/autoencoder.yaml out="$RUNS/autoencoder" \
    export="$RUNS/autoencoder/export"

# Training could render as it reads (data=world:mini:train:6000, as above); these three commands store what both models
# then share, so that no step has to run the encoders. PNG, for WebP is lossy and these pictures are small.
"$M2M" data captions world:mini:train:6000 --test 0 --out "$RUNS/data/captions"
"$M2M" data build --captions "$RUNS/data/captions" --generator world:mini --images-per-set 5 --format png \
    --out "$RUNS/data/pictures"
"$M2M" data encode "$RUNS/data/pictures" --autoencoder "$RUNS/autoencoder/export" --features efficientnet-lite0 \
    --out "$RUNS/data/train"

for variant in self dino; do
    "$M2M" train --config "configs/tiny/$variant.yaml" out="$RUNS/$variant" data="$RUNS/data/train" \
        autoencoder="$RUNS/autoencoder/export" minutes="$MINUTES" export="$RUNS/$variant/model"
done
"$M2M" train-probe --config configs/tiny/probe.yaml out="$RUNS/probe"
