#!/bin/bash
# Runs in Debian 12 with systemd: installs, uses, upgrades and removes the package of pinwatch, and expects an
# alert on a stuck pin. ttyS1 is stdout and ttyS3 takes the status, as in other guests.
set -u
for tty in /dev/ttyS1 /dev/ttyS3; do stty -F $tty raw -echo 115200; done
exec >/dev/ttyS1 2>&1

end() {
    stty -F /dev/ttyS1 raw
    printf "\\$(printf %o "$1")" >/dev/ttyS3
    echo b >/proc/sysrq-trigger
}
say() { echo "install test: $*"; }
fail() {
    say "FAILED: $*"
    systemctl --no-pager --full status pinwatch.service pinwatch.socket | cat
    journalctl --no-pager -b -u pinwatch.service | tail -30
    curl -fsS http://localhost:9090/api/v1/alerts
    systemctl --no-pager --full status prometheus-alertmanager | tail -5
    curl -fsS http://localhost:9090/api/v1/targets | jq -c '.data.activeTargets[] | [.scrapeUrl, .health, .lastError]'
    end 1
    sleep infinity
}
# Waits until a command succeeds, for two minutes at most.
until_true() {
    local what=$1 n
    shift
    for ((n = 0; n < 120; n++)); do
        "$@" && return
        sleep 1
    done
    fail "$what"
}
status() { sed -n "s/^$1:\t//p" "/proc/$(systemctl show -p MainPID --value pinwatch)/status"; }

say "kernel $(uname -r), $(systemctl --version | head -n 1)"
dpkg -i /install_test/first.deb || fail "the package does not install"
systemctl is-active pinwatch.service pinwatch.socket || fail "the service does not run"
pid=$(systemctl show -p MainPID --value pinwatch)
say "the service runs as $(stat -c %U "/proc/$pid"): CapEff $(status CapEff), CapPrm $(status CapPrm), NoNewPrivs $(status NoNewPrivs), Seccomp $(status Seccomp)"
[ "$(stat -c %U "/proc/$pid")" = pinwatch ] || fail "the service runs as another user"
[ "$(status CapEff)$(status CapPrm)" = 00000000000000000000000000000000 ] || fail "the service keeps capabilities"
until_true "the service has no metrics" curl -fsS -o /install_test/metrics http://127.0.0.1:10746/metrics
say "$(grep -c '^pinwatch_' /install_test/metrics) series over the socket that systemd opened"
! grep '^pinwatch_probe_attached.* 0$' /install_test/metrics || fail "a hook is not attached"
journalctl --no-pager -b -u pinwatch.service -o cat | tail -n 3
journalctl --no-pager -b -u pinwatch.service -o cat | grep -q '^<' && fail "systemd does not parse the log priorities"

# The same unit, but it runs `pinwatch check`.
unit=/lib/systemd/system/pinwatch.service
cat $unit $unit.d/*.conf | sed '/^Requires=/d; /^WatchdogSec=/d; /^Restart/d; /^RuntimeDirectory=/d; s/^Type=.*/Type=oneshot/
    s|^ExecStart=.*|ExecStart=/usr/bin/pinwatch check\nStandardOutput=file:/install_test/check|' >/run/systemd/system/pinwatch-check.service
systemctl daemon-reload
systemctl start pinwatch-check.service || { cat /install_test/check; fail "pinwatch check is not full in the unit"; }
say "as that user, in that unit, check says: $(tail -n 1 /install_test/check)"

cd /etc/pinwatch || fail "/etc/pinwatch does not exist"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem 2>/dev/null || fail "openssl makes no certificate"
chown pinwatch key.pem
# The hash of "a long password".
cat >web.yml <<'YML'
tls_server_config: {cert_file: cert.pem, key_file: key.pem}
basic_auth_users: {prometheus: "$2b$04$abcdefghijklmnopqrstuunJ0u00SLiuoTA7qEltWZhxMUdJFZu5q"}
YML
echo 'OPTIONS="--web.config.file /etc/pinwatch/web.yml --stuck-after 5s"' >>/etc/default/pinwatch
systemctl restart pinwatch || fail "the service does not run with TLS"
code() { curl -s -o /dev/null -w '%{http_code}' --cacert cert.pem "$@" https://localhost:10746/metrics; }
answers() { [ "$(code -u 'prometheus:a long password')" = 200 ]; }
until_true "the service does not answer over TLS" answers
say "over TLS: $(code) without a password, $(code -u prometheus:wrong) with a wrong one, $(code -u 'prometheus:a long password') with the right one"
[ "$(code)$(code -u prometheus:wrong)" = 401401 ] || fail "the service does not require the password"
[ "$(curl -s -o /dev/null -w '%{http_code}' http://localhost:10746/metrics)" = 200 ] && fail "the service answers without TLS"

install -m 644 cert.pem /etc/prometheus/pinwatch-ca.pem
printf 'a long password' >/etc/prometheus/pinwatch-password
{
    printf 'global: {scrape_interval: 2s, evaluation_interval: 2s}\n'
    printf 'alerting: {alertmanagers: [{static_configs: [{targets: ["localhost:9093"]}]}]}\n'
    cat /usr/share/pinwatch/prometheus.yml
} >/etc/prometheus/prometheus.yml
promtool check config /etc/prometheus/prometheus.yml >/install_test/promtool || { cat /install_test/promtool; fail "promtool rejects the configuration"; }
# The guest has no address for a cluster.
echo 'ARGS="--cluster.listen-address="' >/etc/default/prometheus-alertmanager
systemctl restart prometheus-alertmanager prometheus
ask() { curl -fsS -G http://localhost:9090/api/v1/query --data-urlencode "query=$1" 2>/dev/null | jq -r '.data.result[0].value[1] // empty'; }
is_up() { [ "$(ask 'up{job="pinwatch"}')" = 1 ]; }
until_true "Prometheus does not scrape the service" is_up
say "Prometheus scrapes it over TLS with a password: up is $(ask 'up{job="pinwatch"}')"

pinwatch load --repeat 3 >/dev/null || fail "pinwatch load fails"
counted() { [ "$(ask 'sum(pinwatch_pins_total)')" = 3 ]; }
until_true "Prometheus does not have the pins" counted
say "3 pins made, Prometheus has $(ask 'sum(pinwatch_pins_total)')"
pinwatch load "$(cat /install_test/stuck)" --disruptive --stall-for 10m >/dev/null 2>&1 &
load=$!
firing() {
    curl -fsS http://localhost:9093/api/v2/alerts 2>/dev/null |
        jq -r '.[] | select(.labels.alertname == "PinwatchPinStuck") | .annotations.summary' >/install_test/alert
    [ -s /install_test/alert ]
}
until_true "Alertmanager has no alert for the stuck pin" firing
say "a stuck pin: Alertmanager has \"$(cat /install_test/alert)\""
kill -9 $load
wait $load 2>/dev/null

before=$pid
dpkg -i /install_test/second.deb || fail "the package does not upgrade"
pid=$(systemctl show -p MainPID --value pinwatch)
[ "$pid" != 0 ] && [ "$pid" != "$before" ] || fail "the upgraded service does not run"
until_true "the service does not answer over TLS after the upgrade" answers
say "upgraded to $(dpkg-query -W -f '${Version}' pinwatch): the service runs with the same configuration"
dpkg --remove pinwatch || fail "the package cannot be removed"
systemctl is-active --quiet pinwatch.service pinwatch.socket && fail "the service still runs after the removal"
[ -e /usr/bin/pinwatch ] && fail "the program is left after the removal"
grep pinwatch_ /sys/kernel/tracing/kprobe_events && fail "kprobe definitions are left after the removal"
dpkg --purge pinwatch || fail "the package cannot be purged"
dpkg-query -W pinwatch 2>/dev/null && fail "dpkg still lists the package"
[ -e /etc/default/pinwatch ] && fail "the options file is left after the purge"
say "removed and purged: no process, no kprobes, no files of the package"
end 0
sleep infinity
