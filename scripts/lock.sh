#!/usr/bin/env bash
# Rewrites requirements/*.lock from requirements/*.in: exact versions and the hashes of every file the index serves for
# them, for Python 3.11 and newer on Linux. Needs `uv` on the path.
#
#   scripts/lock.sh [--upgrade]
#
# The index comes from uv's own configuration or variables (UV_DEFAULT_INDEX, UV_FIND_LINKS for the CPU build of torch);
# none is written into a lock. Commit .in and .lock together.
set -euo pipefail
cd "$(dirname "$0")/../requirements"

compile() {
    local name=$1 header=$2
    shift 2
    local scratch
    scratch=$(mktemp)
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
        --no-emit-find-links "$@" "$name.in" --output-file "$scratch"
    {
        echo "# Made by scripts/lock.sh from $name.in. Install with: pip install --require-hashes --no-deps -r requirements/$name.lock"
        echo "$header" | sed 's/^/# /'
        cat "$scratch"
    } >"$name.lock"
    rm -f "$scratch"
    echo "$name.lock: $(grep -c '==' "$name.lock") packages"
}

run="Really run with Python 3.11.7 and torch 2.13.0+cpu on Linux x86-64; hashes of other files are the index's word."

# The locks constrain each other, so a package that several name has one version.
compile torch-cpu "$run" "$@"
compile runtime "$run" "$@"
compile planner "$run" "$@"
compile dev "$run" "$@"
# The public index alone knows this one: a CPU build found elsewhere must not stand in for it.
unset UV_FIND_LINKS
compile torch-cuda "The GPU build; not run by this project's continuous integration, which has no GPU." "$@"

if grep -nE '://|--(index|find-links|extra)' ./*.lock; then
    echo "a lock names a host or an index" >&2
    exit 1
fi
