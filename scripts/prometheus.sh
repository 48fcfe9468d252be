#!/usr/bin/env bash
# Puts Debian's or Ubuntu's own `prometheus` and `promtool` into a folder, for tests that ask the real ones. Nothing is
# installed, no service is started, and nobody needs to be root: the package is downloaded and unpacked there.
#
#   scripts/prometheus.sh FOLDER      FOLDER/usr/bin/promtool and FOLDER/usr/bin/prometheus; a second call returns at once
#
# Packages come from wherever apt is configured to look; none is written down here. Status 1, with a word, where none comes.
set -euo pipefail

folder=${1:?usage: scripts/prometheus.sh FOLDER}
bin=$folder/usr/bin
wait_s=60
# Chosen: 20 MB and, where the machine never looked, the lists of packages; a mirror that is slower is as good as absent.

fail() {
    echo "prometheus: $*; tests that need promtool or prometheus are skipped" >&2
    exit 1
}

works() {
    "$bin/promtool" --version >/dev/null 2>&1 && "$bin/prometheus" --version >/dev/null 2>&1
}

# apt-get, within what is left of the time that all of it may take.
bounded() {
    local left=$((wait_s - SECONDS))
    timeout "$((left > 1 ? left : 1))" apt-get --quiet --quiet --option APT::Sandbox::User="$(id -un)" "$@"
}

# First by the machine's lists of packages; then by our own, where its are empty and for who may not write to them.
download() {
    cd "$folder"
    bounded download prometheus 2>/dev/null && return
    mkdir -p apt/lists/partial apt/cache/archives/partial
    local own=(--option Dir::State::Lists="$PWD/apt/lists" --option Dir::Cache="$PWD/apt/cache")
    bounded "${own[@]}" update && bounded "${own[@]}" download prometheus
}

works && exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "no apt here to bring them"
rm -rf "$folder"
mkdir -p "$folder"
(download) || fail "apt did not bring the package within $wait_s s"
dpkg-deb --extract "$folder"/prometheus_*.deb "$folder" || fail "the package cannot be unpacked"
rm -rf "$folder"/prometheus_*.deb "$folder/apt"
works || fail "what came does not run here"
