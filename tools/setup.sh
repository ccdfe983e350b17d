#!/bin/sh
# setup.sh [run|test] - installs the Debian packages that are missing to build and run,
# or also to test; for tests also the Python environment in build/venv. Asks nothing.
set -eu
cd "$(dirname "$0")/.."

run_packages="gcc g++ make libsimdjson-dev libroaring-dev libstemmer-dev
    libicu-dev libjemalloc-dev libzstd-dev libxxhash-dev zlib1g-dev libtomlplusplus-dev
    libcurl4-openssl-dev libssl-dev libexpat1-dev ca-certificates"
test_packages="libcmocka-dev dpkg-dev clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev openssl python3 python3-venv curl
    nginx-light prometheus"

case "${1:-run}" in
run) packages=$run_packages ;;
test) packages="$run_packages $test_packages" ;;
*)
    echo "usage: tools/setup.sh [run|test]" >&2
    exit 2
    ;;
esac

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -n "$@"
    else
        echo "setup: needs root or sudo for: $*" >&2
        exit 1
    fi
}

missing=
for package in $packages; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "setup: installing$missing"
    as_root apt-get update -qq </dev/null
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends $missing </dev/null
fi

# The environment is made again when the requirements changed, or its making failed.
if [ "${1:-run}" = test ] && ! cmp -s tests/requirements.txt build/venv/requirements.txt; then
    echo "setup: making build/venv from tests/requirements.txt"
    rm -rf build/venv
    /usr/bin/python3 -m venv build/venv
    build/venv/bin/python -m pip install --quiet --disable-pip-version-check \
        -r tests/requirements.txt </dev/null
    cp tests/requirements.txt build/venv/requirements.txt
fi
