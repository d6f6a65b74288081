#!/bin/sh
# Renews requirements/dev.lock from pyproject.toml: `make lock`, or `make lock ARGS="--upgrade-package ruff"` for one package.
#
# The lock holds for Python 3.11 to 3.14 on every platform and is read by plain pip. The versions in it stay unless
# pyproject.toml no longer allows them; `make lock ARGS=--upgrade` takes the newest of everything.
set -eu
unset CDPATH
cd -- "$(dirname -- "$0")/.."

lock=requirements/dev.lock
resolver=build/lock-tools

# uv resolves for every platform at once, which pip cannot; only whoever renews the lock needs it.
if command -v uv >/dev/null; then
    uv=uv
else
    [ -x "$resolver/bin/uv" ] || {
        python=.venv/bin/python
        [ -x "$python" ] || python=${PYTHON:-python3}
        "$python" -m venv "$resolver"
        "$resolver/bin/python" -m pip install --quiet --disable-pip-version-check "uv>=0.8"
    }
    uv=$resolver/bin/uv
fi

# Nothing of this machine's own configuration may reach the lock: no other index, no local folder of packages.
unset UV_INDEX UV_INDEX_URL UV_DEFAULT_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_CONFIG_FILE UV_CONSTRAINT UV_OVERRIDE
new=$(mktemp)
trap 'rm -f "$new" "$new.lock"' EXIT
grep -v '^#' "$lock" >"$new.lock" 2>/dev/null || true # the versions of today are preferred

"$uv" --no-config pip compile pyproject.toml --group dev --universal --python-version 3.11 \
    --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --quiet --output-file "$new.lock" "$@" >/dev/null

cat >"$new" <<'TXT'
# Everything that `make demo` and `make test` install, each file pinned by its SHA-256, for Python 3.11 to 3.14 on every
# platform. Made from [project] and [dependency-groups] dev in pyproject.toml. Do not edit: `make lock` renews it, and
# docs/decisions/0001-hash-locked-requirements.md says why it is a plain requirements file.

TXT
cat "$new.lock" >>"$new"
cat "$new" >"$lock"
printf 'lock: %s holds %s packages\n' "$lock" "$(grep -c '^[a-z0-9].*==' "$lock")"
