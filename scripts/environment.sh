#!/usr/bin/env bash
# Makes the virtual environment .venv from the locks in requirements/. A second call with unchanged locks returns at once.
#
#   scripts/environment.sh runtime     what `baton` needs
#   scripts/environment.sh dev         that, and what tests, lint and generators need
#
# Packages come from wherever the user's own pip configuration says; none is written down here. Variables:
#   PYTHON            the interpreter to use (3.11 or newer); found by itself otherwise
#   TORCH             cpu | cuda | own; by default cuda where nvidia-smi finds a GPU, cpu elsewhere.
#                     own leaves torch alone: install the build you want into .venv before or after.
#   TORCH_INDEX_URL   an index that serves CPU builds of torch, where pip's configured one does not
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=${1:-runtime}
venv=.venv
oldest="3, 11"

fail() {
    printf 'environment: %s\n' "$@" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
        if "$candidate" -c "import sys; sys.exit(sys.version_info < ($oldest))" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Baton needs Python 3.11 or newer; ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>/dev/null || echo not there)." \
        "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11 ..."
}

make_venv() {
    local python=$1
    if ! "$python" -c "import ensurepip, venv" 2>/dev/null; then
        local version
        version=$("$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}")')
        fail "$python has no venv module. Debian, Ubuntu: apt install $version-venv"
    fi
    # --clear: an environment that is half made or whose interpreter is gone is not worth mending.
    "$python" -m venv --clear "$venv"
}

locked_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps "$@"
}

install_torch_cpu() {
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        # Only torch itself is asked of that index; what torch imports comes from the usual place.
        local alone=$venv/torch-alone.lock
        awk '/^[a-z]/ { keep = /^torch==/ } keep' requirements/torch-cpu.lock >"$alone"
        locked_install --index-url "$TORCH_INDEX_URL" -r "$alone" || return 1
    fi
    locked_install -r requirements/torch-cpu.lock
}

install_torch() {
    local build=${TORCH:-}
    if [ -z "$build" ]; then
        if nvidia-smi -L >/dev/null 2>&1; then build=cuda; else build=cpu; fi
    fi
    case $build in
    own) return ;;
    cuda) locked_install -r requirements/torch-cuda.lock ;;
    cpu)
        if ! install_torch_cpu; then
            echo "environment: the package index has no CPU build of torch that the lock knows; name one with TORCH_INDEX_URL." >&2
            echo "environment: installing the public build instead, which also runs on a CPU (a download of about 2 GB)." >&2
            locked_install -r requirements/torch-cuda.lock
        fi
        ;;
    *) fail "TORCH=$build is not one of cpu, cuda, own" ;;
    esac
}

install_self() {
    # setuptools is in the lock, so the build needs no index.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --editable .
}

build_native() {
    # Without a compiler the workers take torch's operators: slower, so worth a word, not an error.
    "$venv/bin/python" -m kernels.cpu.build "$@" ||
        echo "environment: no native CPU operators (Debian, Ubuntu: apt install g++); workers compute with torch's." >&2
}

case $wanted in runtime | dev) ;; *) fail "usage: scripts/environment.sh runtime|dev" ;; esac

state=$(cat requirements/*.lock pyproject.toml "$0" | sha256sum | cut -d ' ' -f 1)-${TORCH:-auto}
stamp=$venv/.made-$wanted
if [ "$(cat "$stamp" 2>/dev/null)" = "$state" ] && "$venv/bin/python" -c "" 2>/dev/null; then
    exit 0
fi

if ! "$venv/bin/python" -c "import sys, pip; sys.exit(sys.version_info < ($oldest))" 2>/dev/null; then
    python=$(find_python)
    echo "environment: making $venv with $("$python" --version)"
    make_venv "$python"
fi
# Two calls at once would install into each other.
exec 9>"$venv/.lock"
flock 9
echo "environment: installing the $wanted packages"
# The compiler wants nothing of them, and has a core of its own meanwhile.
if [ "$wanted" = runtime ]; then build_native 9>&- & else build_native --tests 9>&- & fi
trap wait EXIT
install_torch
locked_install -r requirements/runtime.lock
[ "$wanted" = runtime ] || locked_install -r requirements/dev.lock
[ "$wanted" = runtime ] || locked_install -r requirements/planner.lock
install_self
wait
echo "$state" >"$stamp"
[ "$wanted" = runtime ] || echo "$state" >"$venv/.made-runtime"
