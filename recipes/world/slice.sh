#!/bin/bash
# One slice of training on a machine without a network:
#
#   recipes/world/slice.sh RUN OUT SECONDS [option of world.train ...]
#
# RUN      folder of the run. It goes on from its last checkpoint; a new one from FROM, or from nothing.
# OUT      gets what is to outlast the machine: a small copy of the run, run.tar.00 and so on of 15 MiB each (put them
#          together by `cat OUT/run.tar.* | tar x -C FOLDER`), the log and the newest sheet of pictures.
# SECONDS  in which all is done. SIGTERM ends it earlier, with all of that too.
#
# In the environment: FROM, a folder with such a small copy, or with its parts; WHEELS, a folder of wheels that the
# machine lacks; PYTHON, the interpreter.
set -uo pipefail
fail() {
    echo "slice.sh: $1" >&2
    exit 1
}
[ $# -ge 3 ] && [[ $3 =~ ^[1-9][0-9]*$ ]] || fail "give RUN OUT SECONDS, and then options of world.train"
run=$1 out=$2 seconds=$3
shift 3
end=$(($(date +%s) + seconds))
here=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
reserve=$((seconds / 10 < 45 ? seconds / 10 : 45)) # for the small copy
mkdir -p "$run" "$out" || exit 1
exec > >(tee -a "$out/log.txt") 2>&1
run=$(cd "$run" && pwd) out=$(cd "$out" && pwd)
scratch=$(mktemp -d) || exit 1
trainer=""
trap 'rm -rf "$scratch" "$run.draft" "$out"/draft.tar.*' EXIT
trap '[ -n "$trainer" ] && kill -TERM "$trainer"' TERM INT

if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$scratch/site" \
        "$WHEELS"/*.whl || exit 1
fi
export PYTHONPATH=$here/src:$here/recipes:$scratch/site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

# A run is there whole or not at all.
if [ -n "${FROM:-}" ] && [ -z "$(ls -A "$run")" ]; then
    rm -rf "$run.draft" && mkdir "$run.draft" || exit 1
    if ls "$FROM"/run.tar.* > /dev/null 2>&1; then
        cat "$FROM"/run.tar.* | tar x -C "$run.draft" || fail "the parts in $FROM are not whole"
    else
        cp -r "$FROM/." "$run.draft" || fail "there is no run in $FROM"
    fi
    ls "$run.draft"/*/ > /dev/null 2>&1 || fail "there is no run in $FROM"
    rmdir "$run" && mv "$run.draft" "$run" || exit 1
fi

# A second slice on the same machine compiles nothing anew; what a kill may have left half compiled is not used.
export TORCHINDUCTOR_CACHE_DIR=$run/compiled
[ -e "$run/compiled/whole" ] || rm -rf "$run/compiled"
rm -f "$run/compiled/whole"

(cd "$here/recipes" && exec "$python" -m world.train --out "$run" --until $((end - reserve)) "$@") &
trainer=$!
wait "$trainer"
status=$?
while kill -0 "$trainer" 2> /dev/null; do # a signal ends the first wait before the trainer has saved
    wait "$trainer"
    status=$?
done
trainer=""
[ $status -eq 0 ] && mkdir -p "$run/compiled" && touch "$run/compiled/whole"

# The parts of an earlier slice stay until there are new ones.
"$python" -m world.handover "$run" "$scratch/small" || fail "the run in $run could not be copied"
tar c -C "$scratch/small" . | split -d -b 15m - "$out/draft.tar." || fail "the small copy could not be written to $out"
rm -f "$out"/run.tar.*
for part in "$out"/draft.tar.*; do
    mv "$part" "$out/run.tar.${part##*.}"
done
newest=$(ls -t "$run"/sheets/*.png 2> /dev/null | head -n 1)
[ -n "$newest" ] && cp "$newest" "$out"
exit $status
