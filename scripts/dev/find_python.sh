#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Print the path of the first usable interpreter among the versions given, in their order.
#
#   sh scripts/dev/find_python.sh [VERSION...]     default: the versions MXNet 1.9.1 runs on, best first
#
# Usable: it starts (a pyenv shim may refuse to), has that version, and can make virtual environments.
# Exits 1 with what to install where there is none.
[ $# -gt 0 ] || set -- 3.11 3.10 3.12 3.9 3.13

# python3 and python come last: they may be any version, and the probe tells which.
candidates() {
    command -v "python$1"
    # Debian's own interpreter, where a pyenv shim of the same name stands before it in PATH.
    for folder in /usr/local/bin /usr/bin /opt/homebrew/bin; do echo "$folder/python$1"; done
    for root in "${PYENV_ROOT:-}" "$HOME/.pyenv" "$(pyenv root 2>/dev/null)"; do
        ls -d "$root/versions/$1".*/bin/"python$1" 2>/dev/null
    done
    ls -d "$HOME"/.local/share/uv/python/cpython-"$1".*/bin/"python$1" 2>/dev/null
    command -v python3
    command -v python
}

probe='
import sys
import ensurepip, venv
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1] or sys.maxsize < 2**32)
'

for version; do
    for python in $(candidates "$version"); do
        if "$python" -c "$probe" "$version" >/dev/null 2>&1; then
            echo "$python"
            exit 0
        fi
    done
done

{
    echo "error: MXNet 1.9.1 needs Python 3.9 to 3.13 with venv; of $* none is installed here."
    echo "Install one, 3.11 is best, then run the same command again:"
    echo "  Debian, Ubuntu    apt-get install python3.11 python3.11-venv"
    echo "  Fedora            dnf install python3.11"
    echo "  any, with pyenv   pyenv install 3.11"
    echo "  any, with uv      uv python install 3.11"
    echo "Found: $(for p in python3 python; do "$p" -c 'import sys; print("Python %d.%d at %s" % (sys.version_info[:2] + (sys.executable,)))' 2>/dev/null; done | sort -u | paste -sd ',' - || true)"
} >&2
exit 1
