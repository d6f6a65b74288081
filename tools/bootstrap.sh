#!/bin/sh
# Makes .venv: a Python >= 3.11, everything in requirements/dev.lock (hashes checked), this project as an editable install.
#
#   tools/bootstrap.sh                 the .venv that stands, else one from the first of python3.14 .. python3.11, python3
#   PYTHON=python3.13 tools/bootstrap.sh    a .venv of that interpreter
#
# When nothing has changed since the last time it does nothing, quickly. .venv/stamp says what the .venv was made from.
set -eu
unset CDPATH PYTHONHOME PYTHONPATH
cd -- "$(dirname -- "$0")/.."

lock=requirements/dev.lock
log=
say() { printf 'bootstrap: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
trap 'rm -f "$log"' EXIT
trap 'exit 130' HUP INT TERM

# Runs a command silently; when it fails, what it said is shown.
quietly() {
    "$@" >"$log" 2>&1 && return
    cat "$log" >&2
    return 1
}

# --- which interpreter -----------------------------------------------------------------------------------------------

# Prints the real interpreter behind $1 (a shim, a link, a .venv), or fails: it must run and have what the project needs.
real_python() {
    "$1" -c '
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
import sqlite3, ssl, venv
print(getattr(sys, "_base_executable", sys.executable))
' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        real_python "$PYTHON" || die "PYTHON=$PYTHON does not run, is older than 3.11, or lacks the sqlite3, ssl or venv module"
        return
    fi
    for candidate in .venv/bin/python python3.14 python3.13 python3.12 python3.11 python3; do
        real_python "$candidate" && return
    done
    die "no Python >= 3.11 with sqlite3, ssl and venv was found; install one, or name it: make test PYTHON=/path/to/python3"
}

# --- what the .venv was made from ------------------------------------------------------------------------------------

# Line 1: interpreter, folder and lock, a change of which makes a new .venv. Line 2: what the editable install depends on.
wanted_stamp() {
    "$1" - "$lock" <<'PY'
import hashlib, os, pathlib, sys

def digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()

def text(path):
    return pathlib.Path(path).read_text(encoding="utf-8")

print(digest(sys.version, sys.base_prefix, os.getcwd(), text(sys.argv[1])))
print(digest(text("pyproject.toml"), text("src/memoryos_uow/_version.py")))
PY
}

stamp_line() { sed -n "$1p" .venv/stamp 2>/dev/null || true; }

# --- making it -------------------------------------------------------------------------------------------------------

plain_venv() {
    rm -rf .venv
    "$python" -m venv .venv >"$log" 2>&1 && .venv/bin/python -m pip --version >>"$log" 2>&1
}

# Debian and Ubuntu keep ensurepip in a package of its own.
apt_venv() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "this Python lacks ensurepip: installing python3-venv with apt-get"
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null 2>&1 || true
    apt-get install -y -qq "$package" >/dev/null 2>&1 || apt-get install -y -qq python3-venv >/dev/null 2>&1 || return 1
    plain_venv
}

virtualenv_venv() {
    rm -rf .venv
    "$python" -m virtualenv --quiet .venv >>"$log" 2>&1 && .venv/bin/python -m pip --version >>"$log" 2>&1
}

# No ensurepip, but a pip outside: it can install into a .venv that has none yet (the lock then brings one).
outer_pip_venv() {
    "$python" -m pip --version >>"$log" 2>&1 || return 1
    rm -rf .venv
    "$python" -m venv --without-pip .venv >>"$log" 2>&1
    pip_from=outside
}

pip() {
    if [ "$pip_from" = outside ]; then
        "$python" -m pip --python .venv/bin/python "$@"
    else
        .venv/bin/python -m pip "$@"
    fi
}

make_venv() {
    say "making .venv with $("$python" --version) at $python"
    plain_venv || apt_venv || virtualenv_venv || outer_pip_venv || {
        grep -q ensurepip "$log" || cat "$log" >&2
        rm -rf .venv
        die "this Python can make no virtual environment: install python3-venv (apt-get install python3-venv) or name another with PYTHON="
    }
}

install_lock() {
    say "installing the $(grep -c '^[a-z0-9].*==' "$lock") packages of $lock, hashes checked"
    quietly pip install --no-compile --require-hashes -r "$lock" || die "the packages could not be installed (is the network there?)"
}

install_project() {
    say "installing memoryos-uow itself (editable)"
    quietly pip install --no-compile --no-deps --no-build-isolation -e . || die "the project could not be installed"
}

python=$(find_python)
stamp=$(wanted_stamp "$python")
[ "$stamp" = "$(cat .venv/stamp 2>/dev/null)" ] && [ -x .venv/bin/python ] && exit 0

[ -w . ] || die "the folder $(pwd) is not writable for $(id -un)"

# Of two makes at once the second waits for the first and then finds the work done: the script starts itself again with a
# lock on its own file, which the system lets go of when it ends, however it ends.
if [ -z "${BOOTSTRAP_LOCKED:-}" ]; then
    BOOTSTRAP_LOCKED=1 exec "$python" -c '
import fcntl, os
file = os.open("tools/bootstrap.sh", os.O_RDONLY)
os.set_inheritable(file, True)
fcntl.flock(file, fcntl.LOCK_EX)
os.execv("/bin/sh", ["sh", "tools/bootstrap.sh"])
'
fi

log=$(mktemp)
pip_from=venv
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0

if [ "$(printf '%s\n' "$stamp" | sed -n 1p)" != "$(stamp_line 1)" ]; then
    make_venv
    install_lock
fi
rm -f .venv/stamp
install_project
printf '%s\n' "$stamp" >.venv/stamp
say "ready"
