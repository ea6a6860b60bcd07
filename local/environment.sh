#!/bin/sh
# Make the Python environment .venv from requirements.txt, or find at once that it is up to date.
# PYTHON=/path/to/python chooses the interpreter; otherwise 3.13 comes before 3.12. Newer ones are
# no Lambda runtime of the template's.
set -eu
cd "$(dirname "$0")/.."

environment=.venv
stamp=$environment/.requirements
key=$(cksum <requirements.txt)

version_of() {
    "$1" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null
}

if [ -n "${PYTHON:-}" ] && [ -d "$environment" ] &&
    [ "$(version_of "$PYTHON")" != "$(version_of "$environment/bin/python")" ]; then
    rm -rf "$environment"
fi

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] && "$environment/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

is_usable() {
    "$1" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3 python}; do
        if is_usable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    # pyenv's shims answer only for the versions that are switched on here.
    if [ -z "${PYTHON:-}" ] && command -v pyenv >/dev/null; then
        for version in $(pyenv versions --bare | sort -r); do
            candidate=$(pyenv prefix "$version")/bin/python
            if is_usable "$candidate"; then
                echo "$candidate"
                return
            fi
        done
    fi
    if [ -z "${PYTHON:-}" ] && command -v uv >/dev/null; then
        uv python find '>=3.12,<3.14' 2>/dev/null || { uv python install 3.13 >&2 && uv python find 3.13; }
    fi
}

if ! is_usable "$environment/bin/python"; then
    python=$(find_python) || true
    if [ -z "$python" ]; then
        found=$(python3 --version 2>&1 || true)
        cat >&2 <<MESSAGE
error: Python 3.13 or 3.12 is needed; found: ${found:-no python3}.
Install Python 3.13 (python.org, pyenv, uv, or your system's packages), or name one you have:
    make PYTHON=/path/to/python3.13 ...
MESSAGE
        exit 1
    fi
    echo "  Making the environment .venv with $("$python" --version) ..."
    rm -rf "$environment"
    if ! "$python" -m venv "$environment"; then
        rm -rf "$environment"
        if command -v uv >/dev/null; then
            uv venv --quiet --python "$python" "$environment"
        else
            echo "error: $python cannot make environments (on Debian: apt install python3-venv)." >&2
            exit 1
        fi
    fi
fi

echo "  Installing the packages of requirements.txt (the first time takes a minute or two) ..."
PATH=$PATH:$PWD/$environment/bin
if ! command -v uv >/dev/null && "$environment/bin/python" -m pip --version >/dev/null 2>&1; then
    # The pinned uv installs the rest several times faster than pip.
    pinned=$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.txt)
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$pinned" || true
fi
if command -v uv >/dev/null &&
    uv pip install --quiet --python "$environment/bin/python" --requirement requirements.txt; then
    :
else
    "$environment/bin/python" -m pip install --disable-pip-version-check --quiet \
        --requirement requirements.txt
fi
echo "$key" >"$stamp"
