#!/usr/bin/env bash
# Sets the environment up where needed, then runs the notebooks, the tests or JupyterLab. See README.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

usage() {
    cat <<'TEXT'
./run_all.sh                        set up if needed, run the series on the profile `mini`
./run_all.sh --profile NAME         the same on another profile (smoke, paper, paper_n8)
./run_all.sh 01 -p NAME VALUE ...   one notebook with new parameters
./run_all.sh --plan ...             what a run with these arguments would do, what is missing, what it costs
./run_all.sh --backend ray ...      on a Ray cluster (see README.md)
./run_all.sh test [PYTEST OPTION]   set up if needed, run the tests
./run_all.sh lab [JUPYTER OPTION]   JupyterLab on notebooks/
TEXT
}

fail() {
    printf '%s\n' "run_all.sh: $1" >&2
    exit 1
}

# A conda environment counts as ours when it holds what environment.yml installs; `base` of a laptop does not.
ours() {
    [ -n "${CONDA_PREFIX:-}" ] && compgen -G "$CONDA_PREFIX/lib/python3*/site-packages/papermill-*.dist-info" >/dev/null &&
        compgen -G "$CONDA_PREFIX/lib/python3*/site-packages/open3d-*.dist-info" >/dev/null
}

find_python() {
    for candidate in python3.11 python3 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "needs Python 3.11, 3.12 or 3.13; found: $(python3 --version 2>&1 || true).
  Debian, Ubuntu: apt-get install python3.11 python3.11-venv
  conda:          conda env create -f environment.yml && conda activate judging-to-improve
  macOS:          brew install python@3.11"
}

check_disk() {
    local free_mb
    free_mb=$(df -Pm "$root" | awk 'NR == 2 { print $4 }')
    [ "$free_mb" -ge 4096 ] || fail "needs about 4 GB of free disk in $root, found $free_mb MB. Free some, or clone elsewhere."
}

have_libusb() { "$1" -c 'import ctypes.util, sys; sys.exit(ctypes.util.find_library("usb-1.0") is None)'; }

# open3d links against libusb-1.0, which pip cannot install.
provide_libusb() {
    have_libusb "$1" && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing libusb-1.0-0, which open3d needs"
        { apt-get update -qq && apt-get install -y -qq libusb-1.0-0; } >/dev/null && have_libusb "$1" && return
    fi
    fail "open3d needs the system library libusb-1.0, which is missing.
  Debian, Ubuntu: sudo apt-get install libusb-1.0-0
  conda:          conda env create -f environment.yml && conda activate judging-to-improve
  macOS:          brew install libusb"
}

# The stamp holds what was installed and for which folder, so a changed requirements.txt or a moved clone sets up again.
set_up() {
    local prefix=$1 stamp=$1/.judging-to-improve wanted system_python
    wanted="$root $(cat "$root/requirements.txt" "$root/pyproject.toml" | cksum)"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
    if [ "$prefix" = "$root/.venv" ]; then
        system_python=$(find_python)
        check_disk
        provide_libusb "$system_python"
        echo "Setting up .venv (about 2 minutes and 3 GB)"
        "$system_python" -m venv "$prefix" || fail "python -m venv failed; on Debian and Ubuntu: apt-get install python3-venv"
    fi
    local pip=("$prefix/bin/python" -m pip install --disable-pip-version-check)
    [ -t 1 ] || pip+=(-q) # a terminal sees pip's own progress bars, a log does not need them
    "${pip[@]}" -r "$root/requirements.txt"
    "${pip[@]}" --no-deps --no-build-isolation -e "$root"
    printf '%s' "$wanted" >"$stamp"
}

case "${1:-}" in -h | --help | help) usage && exit ;; esac
if ours; then prefix=$CONDA_PREFIX; else prefix=$root/.venv; fi
set_up "$prefix"
export PATH="$prefix/bin:$PATH" JUPYTER_PREFER_ENV_PATH=1 PYDEVD_DISABLE_FILE_VALIDATION=1
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" # torch's idle threads sleep: spinning, they stall a busy machine
export ONEDNN_PRIMITIVE_CACHE_CAPACITY="${ONEDNN_PRIMITIVE_CACHE_CAPACITY:-128}" # of 1,024 a training fills 0.5 GB

case "${1:-}" in
    test) shift && cd "$root" && exec python -m pytest "$@" ;;
    lab) shift && exec python -m jupyter lab "$root/notebooks" "$@" ;;
    *) exec python -m lib.runner "$@" ;;
esac
