# Sourced by the scripts beside it: makes sure that Debian packages and a Rust toolchain are there.
# shellcheck shell=bash

# need_packages PACKAGE...: installs what is missing, as root or with sudo; otherwise says what to run.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if ! command -v apt-get >/dev/null; then
        echo "error: these Debian packages (or your system's equivalents) are needed: ${missing[*]}" >&2
        exit 1
    fi
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
            echo "error: these packages are missing and installing them needs root. Run:" >&2
            echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo -n)
    fi
    echo "installing: ${missing[*]}" >&2
    "${as_root[@]}" apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# need_rust: a clear word instead of "cargo: command not found".
need_rust() {
    [ -f "${CARGO_HOME:-$HOME/.cargo}/env" ] && . "${CARGO_HOME:-$HOME/.cargo}/env"
    command -v cargo >/dev/null && return 0
    echo "error: no Rust toolchain found. Install one from https://rustup.rs and run this again." >&2
    exit 1
}
