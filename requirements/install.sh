#!/usr/bin/env bash
# Make .venv what requirements/*.txt say (`make setup`). Needs Python 3.11 with pip, nothing else.
#
# A working .venv is kept and only brought up to date, because programs may be running from it; one whose installation
# was killed, or that was moved, is made anew. A stamp holds the hash of everything that went in: a second call compares
# it and ends. DEVICE=cpu or DEVICE=gpu overrules the search for a driver.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/installed
unfinished=$venv/installing
scratch=build/setup

fail() {
    echo "make setup: $*" >&2
    exit 2
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    fail "no Python 3.11 found. Install it (Debian: apt install python3.11 python3.11-venv)" \
        "or name it: make setup PYTHON=/path/to/python3.11"
}

# cpu, or gpu where an NVIDIA driver is found: its libraries load, or its tool works.
find_device() {
    local python=$venv/bin/python
    [[ -x $python ]] || python=$(find_python)
    if [[ -n ${DEVICE:-} ]]; then
        [[ $DEVICE == cpu || $DEVICE == gpu ]] || fail "DEVICE is cpu or gpu, not '$DEVICE'"
        echo "$DEVICE"
    elif "$python" -c 'import ctypes; [ctypes.CDLL(f"lib{name}.so.1") for name in ("cuda", "nvidia-ml")]' 2>/dev/null ||
        nvidia-smi >/dev/null 2>&1; then
        echo gpu
    else
        echo cpu
    fi
}

# Everything that decides what gets installed; this folder too, because the scripts of an environment name it.
hash_inputs() {
    {
        pwd
        cat pyproject.toml requirements/{setup,"$1",cluster,weights,demo,dev}.txt requirements/install.sh
    } | sha256sum
}

# Usable: installed to the end, its interpreter runs, is 3.11, and its scripts name this folder.
venv_works() {
    [[ ! -e $unfinished ]] &&
        "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null &&
        grep -qF "$PWD/$venv" "$venv/bin/activate"
}

# A machine may lack ensurepip (Debian ships it apart, in python3.11-venv); its own pip can then fill the environment.
create_venv() {
    local python
    python=$(find_python)
    echo "make setup: creating $venv with $python"
    "$python" -m venv --clear "$venv" >"$scratch/venv.log" 2>&1 ||
        "$python" -m venv --clear --without-pip "$venv" >>"$scratch/venv.log" 2>&1 || {
        cat "$scratch/venv.log" >&2
        fail "$python cannot make a virtual environment. Debian: apt install python3.11-venv"
    }
}

install_uv() {
    local pip=("$venv/bin/python" -m pip)
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
        pip=("$(find_python)" -m pip --python "$venv/bin/python")
        "${pip[@]}" --version >/dev/null 2>&1 ||
            fail "there is no pip. Debian: apt install python3.11-venv (or python3-pip)"
    fi
    "${pip[@]}" install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/setup.txt
}

# uv does not read pip's configuration. Where a machine reaches its registry only through that, hand it on; what is set
# for uv itself comes first.
pip_setting() {
    "$venv/bin/python" -m pip config get "$1" 2>/dev/null || true
}
configure_uv() {
    local value
    if [[ -z ${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}${UV_CONFIG_FILE:-} ]]; then
        value=${PIP_INDEX_URL:-$(pip_setting global.index-url)}
        [[ -z $value ]] || export UV_DEFAULT_INDEX=$value
    fi
    if [[ -z ${SSL_CERT_FILE:-} ]]; then
        value=${PIP_CERT:-$(pip_setting global.cert)}
        [[ -z $value ]] || export SSL_CERT_FILE=$value
    fi
    export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180} UV_PYTHON=$venv/bin/python
}

mkdir -p "$scratch"
exec 9>"$scratch/lock"
flock 9 # two calls at once take turns

device=$(find_device)
inputs=$(hash_inputs "$device")
if [[ -x $venv/bin/recsys && -e $stamp && $(<"$stamp") == "$inputs" ]] && "$venv/bin/python" -c ''; then
    exit 0
fi

rm -f "$stamp"
venv_works || create_venv
"$venv/bin/uv" --version >/dev/null 2>&1 || install_uv
touch "$unfinished"
configure_uv
echo "make setup: installing requirements/$device.txt and what tests and demo need (7.6 GB the first time)"
"$venv/bin/uv" pip sync --require-hashes requirements/{setup,"$device",cluster,weights,demo,dev}.txt
"$venv/bin/uv" pip install --quiet --offline --no-deps --no-build-isolation --editable .
echo "$inputs" >"$stamp"
rm "$unfinished"
echo "make setup: done"
