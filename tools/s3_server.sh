#!/bin/sh
# s3_server.sh minio|install|stop - a real S3 server on loopback, for tests.
# Installs it on first use into build/tools, starts it, makes the bucket, and prints the
# environment that reaches it, for:  eval "$(tools/s3_server.sh minio)"
# Its files are in build/s3.
set -eu
cd "$(dirname "$0")/.."

minio=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
tools=$PWD/build/tools
dir=$PWD/build/s3
key=elacsym-test
secret=elacsym-test-secret
bucket=elacsym
port=${S3_TEST_PORT:-9123}

say() { echo "s3_server: $*" >&2; }

go_install() {
    [ -x "$tools/$1" ] && return
    command -v go >/dev/null || {
        say "needs Go to install $1; not run"
        exit 3
    }
    say "installing $2, which takes minutes"
    GOBIN=$tools nice -n 10 go install "$2" >&2
}

stop() {
    for pid in "$dir"/*.pid; do
        [ -f "$pid" ] || continue
        kill "$(cat "$pid")" 2>/dev/null || true
        n=0
        while kill -0 "$(cat "$pid")" 2>/dev/null && [ $n -lt 50 ]; do
            sleep 0.1
            n=$((n + 1))
        done
        rm -f "$pid"
    done
}

# Until the port answers HTTP; fails when the server has ended.
wait_for() {
    n=0
    until curl -s -o /dev/null --max-time 2 "http://127.0.0.1:$port/"; do
        n=$((n + 1))
        if [ $n -gt 300 ] || ! kill -0 "$(cat "$dir/$1.pid")" 2>/dev/null; then
            say "$1 did not start: $dir/log"
            tail -5 "$dir/log" >&2
            exit 1
        fi
        sleep 0.1
    done
}

make_bucket() {
    n=0
    until curl -s -f -o /dev/null --max-time 10 -X PUT --user "$key:$secret" \
        --aws-sigv4 aws:amz:us-east-1:s3 "http://127.0.0.1:$port/$bucket"; do
        n=$((n + 1))
        [ $n -lt 50 ] || {
            say "cannot make the bucket"
            exit 1
        }
        sleep 0.2
    done
}

fresh() {
    stop
    rm -rf "$dir"
    mkdir -p "$dir/data"
}

print_environment() {
    cat <<END
export AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret AWS_REGION=us-east-1
export S3_TEST_ENDPOINT=http://127.0.0.1:$port S3_TEST_BUCKET=$bucket
END
}

case "${1:-}" in
minio)
    go_install minio $minio
    fresh
    MINIO_ROOT_USER=$key MINIO_ROOT_PASSWORD=$secret MINIO_BROWSER=off MINIO_UPDATE=off \
        CI=true "$tools/minio" server --quiet --address "127.0.0.1:$port" "$dir/data" \
        >"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/minio.pid"
    wait_for minio
    make_bucket
    print_environment
    ;;
install) go_install minio $minio ;;
stop) stop ;;
*)
    echo "usage: tools/s3_server.sh minio|install|stop" >&2
    exit 2
    ;;
esac
