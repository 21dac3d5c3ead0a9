#!/usr/bin/env bash
# A real S3 server for tests: Ceph's object gateway with one monitor and one OSD, all on loopback.
#
#   ceph.sh start DIR PORT MONITOR_PORT   make a cluster in DIR, or start the one there; return when S3 answers
#   ceph.sh stop DIR                      stop it in order; what is stored stays in DIR
#
# Debian has what it needs:
#   apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common ceph-base
# Run it as root. The S3 credentials are testaccesskey and testsecretkey1. Logs and pid files are in DIR/run.
set -euo pipefail

make_monitor() {
  local fsid
  fsid=$(cat /proc/sys/kernel/random/uuid)
  mkdir -p "$dir"/{mon,osd,run,rgw}
  cat > "$CEPH_CONF" <<CONFIG
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$monitor_port]
public addr = 127.0.0.1
keyring = $keyring
mon data = $dir/mon
osd data = $dir/osd
run dir = $dir/run
admin socket = $dir/run/\$name.asok
log file = $dir/run/\$name.log
# one small copy of everything
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 500
bluestore block size = 10737418240
bluestore cache size = 134217728
# a lone monitor need not gather proposals for a second: start in 6 s instead of 15 s
paxos propose interval = 0.05
paxos min wait = 0.01
[client.rgw]
rgw data = $dir/rgw
rgw frontends = beast endpoint=127.0.0.1:$port
CONFIG
  monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$monitor_port]" "$dir/monmap"
  # the daemons' secrets, all in one file
  ceph-authtool --create-keyring "$keyring" --gen-key -n mon. --cap mon 'allow *'
  ceph-authtool "$keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
  ceph-authtool "$keyring" --gen-key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
  ceph-authtool "$keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
  ceph-mon --mkfs -i a --monmap "$dir/monmap" --keyring "$keyring"
}

make_osd() {
  local uuid
  uuid=$(cat /proc/sys/kernel/random/uuid)
  ceph auth import -i "$keyring"
  ceph osd new "$uuid"
  ceph-osd -i 0 --mkfs --osd-uuid "$uuid"
}

make_user() {
  radosgw-admin user create --uid test --display-name test \
    --access-key testaccesskey --secret testsecretkey1
}

run() {  # NAME COMMAND...
  "${@:2}" &
  echo $! > "$dir/run/$1.pid"
}

start() {
  local new=
  [ -e "$keyring" ] || new=1
  if [ $new ]; then make_monitor; fi
  run monitor ceph-mon -f -i a
  if [ $new ]; then make_osd; fi
  run osd ceph-osd -f -i 0
  if [ $new ]; then make_user; fi
  run gateway radosgw -f -n client.rgw
  for _ in {1..600}; do
    if (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then return; fi
    sleep 0.1
  done
  echo "the gateway does not answer on port $port; see $dir/run/client.rgw.log"
  return 1
}

stop() {
  local name pid
  for name in gateway osd monitor; do
    pid=$(cat "$dir/run/$name.pid" 2> /dev/null) || continue
    kill "$pid" 2> /dev/null || continue
    for _ in {1..300}; do
      [ -e "/proc/$pid/exe" ] || continue 2  # also when it is a zombie that nobody fetches
      sleep 0.1
    done
    echo "the $name does not stop: killed"
    kill -KILL "$pid"
  done
}

case "$#-${1:-}" in
  4-start | 2-stop)
    dir=$2 port=${3:-} monitor_port=${4:-} keyring=$2/keyring
    export CEPH_CONF=$dir/ceph.conf
    "$1"
    ;;
  *)
    echo "ceph.sh start DIR PORT MONITOR_PORT, or ceph.sh stop DIR"
    exit 2
    ;;
esac
