#!/usr/bin/env bash
# The two fine-tuned tasks (section 8.5) in small, on two CPU cores, from nothing but the shipped tiny-self: data,
# latents, fine-tuning, and what comes out. Every command continues where it was cut off, so the script can be stopped
# and started again at any time. Needs the extras: pip install 'm2m-diffusion[nvs,steps,train,data]'
#   recipes/tiny_tasks.sh                             both tasks, about an hour each
#   TASK=novel_view recipes/tiny_tasks.sh             one of them
#   STEPS=200 RUNS=runs/look recipes/tiny_tasks.sh    a short look
#   SCRATCH=1 recipes/tiny_tasks.sh                   from new weights, for comparison
#   DRY_RUN=1 recipes/tiny_tasks.sh                   print the commands, run none
set -euo pipefail
cd "$(dirname "$0")/.."

TASK=${TASK:-both}                       # novel_view, visual_procedure or both
STEPS=${STEPS:-}                         # none: those of the config
SCRATCH=${SCRATCH:-}
DATA=${DATA:-runs/data}
RUNS=${RUNS:-runs}
M2M=${M2M:-.venv/bin/m2m}
BASE=${BASE:-src/m2m/weights/tiny-self}  # a folder: what is fine-tuned, and whose autoencoder makes the latents
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

case $TASK in
    both) tasks=(novel_view visual_procedure) ;;
    novel_view | visual_procedure) tasks=("$TASK") ;;
    *) echo "TASK is '$TASK': use novel_view, visual_procedure or both" >&2 && exit 2 ;;
esac

# run COMMAND...: say it, then do it, unless this is a dry run.
run() {
    printf '+' && printf ' %q' "$@" && echo
    [ -n "${DRY_RUN:-}" ] || "$@"
}

# encode NAME: latents of the training split, so that no step has to run the autoencoder.
encode() {
    run "$M2M" data encode "$DATA/$1-shards/train" --autoencoder "$BASE/vae" --out "$DATA/$1-latents/train"
}

# fine_tune TASK DATA: by its config, into $model.
fine_tune() {
    local name=${1//_/-}${SCRATCH:+-scratch} settings=()
    model=$RUNS/$name/model
    [ -z "$SCRATCH" ] || settings+=(from_scratch=true)
    if [ -n "$STEPS" ]; then
        settings+=(steps="$STEPS" cooldown_steps=$((STEPS / 4 + 1)) warmup_steps=$((STEPS / 20 + 1)))
    fi
    run "$M2M" train --config "configs/tiny/$1.yaml" data="$DATA/$2-latents/train" \
        validation="$DATA/$2-shards/validation" base="$BASE" out="$RUNS/$name" export="$model" "${settings[@]}"
}

# first DIR: the first folder in it, by name; in a dry run there may be none yet.
first() {
    local found
    found=$(find "$1" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sort | head -1 || true)
    echo "${found:-$1/NAME}"
}

novel_view() {
    local split
    for split in train validation test; do
        run "$M2M" data objects --split "$split" --size 64 --out "$DATA/objects/$split"
        run "$M2M" data objaverse "$DATA/objects/$split" --size 64 --format png --out "$DATA/objects-shards/$split"
    done
    encode objects
    fine_tune novel_view objects
    run "$M2M" views "$(first "$DATA/objects/test")/000.png" --cameras orbit:8,elevation=20 --model "$model" \
        --out "$RUNS/novel-views" --overwrite
}

visual_procedure() {
    local split steps
    for split in train validation test; do
        run "$M2M" data drawings --split "$split" --size 64 --out "$DATA/drawings/$split"
        run "$M2M" data steps "$DATA/drawings/$split" --size 64 --format png --out "$DATA/drawings-shards/$split"
    done
    encode drawings
    fine_tune visual_procedure drawings
    steps=$(first "$DATA/drawings/test")
    run "$M2M" continue "$steps/00.png" "$steps/01.png" -n 4 --model "$model" --out "$RUNS/next-steps" --overwrite
}

for task in "${tasks[@]}"; do "$task"; done
