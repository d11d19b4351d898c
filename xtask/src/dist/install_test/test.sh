#!/bin/bash
# In a Debian 12 with systemd: pinwatch's package from installation to removal, and an alert on a pin
# that hangs. ttyS1 is stdout, ttyS3 takes the status, as in other guests.
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
# Until it is so, or two minutes have passed.
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
dpkg -i /install_test/first.deb || fail "it does not install"
systemctl is-active pinwatch.service pinwatch.socket || fail "it does not run"
pid=$(systemctl show -p MainPID --value pinwatch)
say "the service runs as $(stat -c %U "/proc/$pid"): CapEff $(status CapEff), CapPrm $(status CapPrm), NoNewPrivs $(status NoNewPrivs), Seccomp $(status Seccomp)"
[ "$(stat -c %U "/proc/$pid")" = pinwatch ] || fail "it runs as somebody else"
[ "$(status CapEff)$(status CapPrm)" = 00000000000000000000000000000000 ] || fail "capabilities are left"
until_true "no metrics" curl -fsS -o /install_test/metrics http://127.0.0.1:10746/metrics
say "$(grep -c '^pinwatch_' /install_test/metrics) series over the socket that systemd opened"
! grep '^pinwatch_probe_attached.* 0$' /install_test/metrics || fail "a hook is missing"
journalctl --no-pager -b -u pinwatch.service -o cat | tail -n 3
journalctl --no-pager -b -u pinwatch.service -o cat | grep -q '^<' && fail "systemd does not take the priorities"

# The unit, but for what it runs.
unit=/lib/systemd/system/pinwatch.service
cat $unit $unit.d/*.conf | sed '/^Requires=/d; /^WatchdogSec=/d; /^Restart/d; /^RuntimeDirectory=/d; s/^Type=.*/Type=oneshot/
    s|^ExecStart=.*|ExecStart=/usr/bin/pinwatch check\nStandardOutput=file:/install_test/check|' >/run/systemd/system/pinwatch-check.service
systemctl daemon-reload
systemctl start pinwatch-check.service || { cat /install_test/check; fail "check is not full"; }
say "as that user, in that unit, check says: $(tail -n 1 /install_test/check)"

cd /etc/pinwatch || fail "no folder for its configuration"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem 2>/dev/null || fail "no certificate"
chown pinwatch key.pem
# The hash of "a long password".
cat >web.yml <<'YML'
tls_server_config: {cert_file: cert.pem, key_file: key.pem}
basic_auth_users: {prometheus: "$2b$04$abcdefghijklmnopqrstuunJ0u00SLiuoTA7qEltWZhxMUdJFZu5q"}
YML
echo 'OPTIONS="--web.config.file /etc/pinwatch/web.yml --stuck-after 5s"' >>/etc/default/pinwatch
systemctl restart pinwatch || fail "it does not run with TLS"
code() { curl -s -o /dev/null -w '%{http_code}' --cacert cert.pem "$@" https://localhost:10746/metrics; }
answers() { [ "$(code -u 'prometheus:a long password')" = 200 ]; }
until_true "TLS does not answer" answers
say "over TLS: $(code) without a password, $(code -u prometheus:wrong) with a wrong one, $(code -u 'prometheus:a long password') with the right one"
[ "$(code)$(code -u prometheus:wrong)" = 401401 ] || fail "it does not ask for the password"
[ "$(curl -s -o /dev/null -w '%{http_code}' http://localhost:10746/metrics)" = 200 ] && fail "it answers without TLS"

install -m 644 cert.pem /etc/prometheus/pinwatch-ca.pem
printf 'a long password' >/etc/prometheus/pinwatch-password
{
    printf 'global: {scrape_interval: 2s, evaluation_interval: 2s}\n'
    printf 'alerting: {alertmanagers: [{static_configs: [{targets: ["localhost:9093"]}]}]}\n'
    cat /usr/share/pinwatch/prometheus.yml
} >/etc/prometheus/prometheus.yml
promtool check config /etc/prometheus/prometheus.yml >/install_test/promtool || { cat /install_test/promtool; fail "the configuration"; }
# It looks for an address of a cluster, and here is none.
echo 'ARGS="--cluster.listen-address="' >/etc/default/prometheus-alertmanager
systemctl restart prometheus-alertmanager prometheus
ask() { curl -fsS -G http://localhost:9090/api/v1/query --data-urlencode "query=$1" 2>/dev/null | jq -r '.data.result[0].value[1] // empty'; }
is_up() { [ "$(ask 'up{job="pinwatch"}')" = 1 ]; }
until_true "Prometheus does not scrape it" is_up
say "Prometheus scrapes it over TLS with a password: up is $(ask 'up{job="pinwatch"}')"

pinwatch load --repeat 3 >/dev/null || fail "no load"
counted() { [ "$(ask 'sum(pinwatch_pins_total)')" = 3 ]; }
until_true "the pins are not counted" counted
say "3 pins made, Prometheus has $(ask 'sum(pinwatch_pins_total)')"
pinwatch load "$(cat /install_test/stuck)" --stall-for 10m >/dev/null 2>&1 &
load=$!
firing() {
    curl -fsS http://localhost:9093/api/v2/alerts 2>/dev/null |
        jq -r '.[] | select(.labels.alertname == "PinwatchPinStuck") | .annotations.summary' >/install_test/alert
    [ -s /install_test/alert ]
}
until_true "no alert" firing
say "a pin that hangs: Alertmanager has \"$(cat /install_test/alert)\""
kill -9 $load
wait $load 2>/dev/null

before=$pid
dpkg -i /install_test/second.deb || fail "it does not upgrade"
pid=$(systemctl show -p MainPID --value pinwatch)
[ "$pid" != 0 ] && [ "$pid" != "$before" ] || fail "the new one does not run"
until_true "TLS does not answer after the upgrade" answers
say "upgraded to $(dpkg-query -W -f '${Version}' pinwatch): it runs, and its configuration is what it was"
dpkg --remove pinwatch || fail "it cannot be removed"
systemctl is-active --quiet pinwatch.service pinwatch.socket && fail "it runs on"
[ -e /usr/bin/pinwatch ] && fail "the program stays"
grep pinwatch_ /sys/kernel/tracing/kprobe_events && fail "definitions of kprobes stay"
dpkg --purge pinwatch || fail "it cannot be purged"
dpkg-query -W pinwatch 2>/dev/null && fail "dpkg still knows it"
[ -e /etc/default/pinwatch ] && fail "its options stay"
say "removed and purged: no process, no kprobes, no files of the package"
end 0
sleep infinity
