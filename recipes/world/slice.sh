#!/bin/bash
# One slice of training on a machine without a network:
#
#   recipes/world/slice.sh RUN OUT SECONDS [option of world.train ...]
#
# RUN      folder of the run. It goes on from its last checkpoint; a new one from FROM, or from nothing.
# OUT      gets what is to outlast the machine: a small copy of the run, run.tar.00 and so on of 15 MiB each (put them
#          together by `cat OUT/run.tar.* | tar x -C FOLDER`), the log and the newest sheet of pictures.
# SECONDS  in which all is done.
#
# In the environment: FROM, a folder with such a small copy, or with its parts; WHEELS, a folder of wheels that the
# machine lacks; PYTHON, the interpreter.
set -uo pipefail
run=$1 out=$2 seconds=$3
shift 3
end=$(($(date +%s) + seconds))
here=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
reserve=$((seconds / 10 < 45 ? seconds / 10 : 45)) # for the small copy
mkdir -p "$run" "$out"
exec > >(tee -a "$out/log.txt") 2>&1
run=$(cd "$run" && pwd) out=$(cd "$out" && pwd)

site=""
if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl || exit 1
fi
export PYTHONPATH=$here/src:$here/recipes:$site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

# A second slice on the same machine compiles nothing anew; what a kill may have left half compiled is not used.
export TORCHINDUCTOR_CACHE_DIR=$run/compiled
[ -e "$run/compiled/whole" ] || rm -rf "$run/compiled"
rm -f "$run/compiled/whole"

if [ -n "${FROM:-}" ] && [ -z "$(ls -A "$run")" ]; then
    if ls "$FROM"/run.tar.* > /dev/null 2>&1; then
        cat "$FROM"/run.tar.* | tar x -C "$run" || exit 1
    else
        cp -r "$FROM/." "$run" || exit 1
    fi
fi

(cd "$here/recipes" && "$python" -m world.train --out "$run" --until $((end - reserve)) "$@")
status=$?
[ $status -eq 0 ] && mkdir -p "$run/compiled" && touch "$run/compiled/whole"

small=$(mktemp -d)
"$python" -m world.handover "$run" "$small" || exit 1
rm -f "$out"/run.tar.*
tar c -C "$small" . | split -d -b 15m - "$out/run.tar."
newest=$(ls -t "$run"/sheets/*.png 2> /dev/null | head -n 1)
[ -n "$newest" ] && cp "$newest" "$out"
rm -rf "$small" "$site"
exit $status
