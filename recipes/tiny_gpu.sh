#!/usr/bin/env bash
# The tiny models of the FULL world (1,042 subjects, nine styles, 20 backgrounds) on one GPU, in about 25 minutes:
# autoencoder, M2M-Self, M2M-DINO, probe. For machines that are lent in short legs: a run ends itself after LEG seconds
# (default 540), and the next one continues where it was.
#
#   recipes/tiny_gpu.sh                       one leg; run it until it prints "all done"
#   DEVICE=cpu STEPS=4 SETS=40 LEG=600 recipes/tiny_gpu.sh    the same path on a CPU, a few steps a stage (tested so)
#
# Weights land in $RUNS/{autoencoder,self,dino,probe}/export, float16 safetensors in shards of 15 MB at most.
set -euo pipefail
cd "$(dirname "$0")/.."

M2M=${M2M:-.venv/bin/m2m}
RUNS=${RUNS:-runs/gpu}
DEVICE=${DEVICE:-cuda}
WORLD=${WORLD:-full}
SETS=${SETS:-60000}
LEG=${LEG:-540}
STEPS=${STEPS:-}
WORKERS=${WORKERS:-$(nproc)}
# Guesses until a GPU has run this; lower them where 25 minutes do not suffice.
AUTOENCODER_STEPS=${STEPS:-12000}
MODEL_STEPS=${STEPS:-16000}
PROBE_STEPS=${STEPS:-8000}
STARTED=$SECONDS

# stage NAME COMMAND...: runs what is left of a stage within what is left of the leg; each command resumes by itself.
stage() {
    local name=$1 left=$((LEG - (SECONDS - STARTED)))
    shift
    [ -e "$RUNS/$name.done" ] && return 0
    if [ "$left" -lt 20 ]; then echo "leg over before $name; run again" && exit 0; fi
    echo "== $name, $left s left in this leg"
    local status=0
    timeout --signal=TERM --kill-after=30 "$left" "$@" || status=$?
    case $status in
        0) touch "$RUNS/$name.done" ;;
        124 | 143) echo "leg over in $name; run again" && exit 0 ;;
        *) exit "$status" ;;
    esac
}

cooldown() { echo $(($1 / 5 > 0 ? $1 / 5 : 1)); }  # the last fifth of a run cools the learning rate down
warmup() { echo $(($1 / 5 < 200 ? $1 / 5 : 200)); }

mkdir -p "$RUNS"
# Pictures are rendered as they are read, by WORKERS processes, and encoded in the step: nothing has to be stored.
data="world:$WORLD:train:$SETS"
validation="world:$WORLD:validation:8"
stage autoencoder "$M2M" train-autoencoder --config configs/tiny/autoencoder.yaml data="$data" \
    validation="$validation" out="$RUNS/autoencoder" export="$RUNS/autoencoder/export" \
    device="$DEVICE" workers="$WORKERS" batch_images="${AUTOENCODER_BATCH:-128}" steps="$AUTOENCODER_STEPS" \
    cooldown_steps="$(cooldown "$AUTOENCODER_STEPS")" warmup_steps="$(warmup "$AUTOENCODER_STEPS")"
for variant in self dino; do
    stage "$variant" "$M2M" train --config "configs/tiny/$variant.yaml" data="$data" validation="$validation" \
        autoencoder="$RUNS/autoencoder/export" out="$RUNS/$variant" export="$RUNS/$variant/export" \
        device="$DEVICE" workers="$WORKERS" batch_sets="${MODEL_BATCH:-48}" \
        schedule=wsd steps="$MODEL_STEPS" cooldown_steps="$(cooldown "$MODEL_STEPS")" \
        warmup_steps="$(warmup "$MODEL_STEPS")"
done
stage probe "$M2M" train-probe --config configs/tiny/probe.yaml world="$WORLD" data="$RUNS/probe_data/train" \
    validation="$RUNS/probe_data/validation" out="$RUNS/probe" export="$RUNS/probe/export" device="$DEVICE" \
    workers="$WORKERS" images="${PROBE_IMAGES:-200000}" validation_images="${PROBE_VALIDATION:-4096}" \
    model.widths="${PROBE_WIDTHS:-[48,96,192,384]}" model.blocks="${PROBE_BLOCKS:-[1,2,2,2]}" \
    batch_images="${PROBE_BATCH:-256}" steps="$PROBE_STEPS" warmup_steps="$(warmup "$PROBE_STEPS")"
echo "all done: $RUNS/{autoencoder,self,dino,probe}/export"
