//! The shipped unit under a real systemd, booted in its own namespaces. Where that is impossible, the test reports
//! it.

use std::path::Path;
use std::process::Command;

use crate::support::{Backend, Setup, file, free, peer};

const UNIT: &str = include_str!("../../conf/ballast.service");

/// Names the test that covers the notifications on machines without systemd.
const STAND_IN: &str = "a NOTIFY_SOCKET listener stands in for it in handover::notifications";

/// The script that runs inside the namespaces, where the unit is installed and `/tmp` is private.
const INSIDE: &str = r#"
set -eEu
trap 'echo "failed: $BASH_COMMAND" >&2; systemctl show -p ActiveState,Result,ExecMainStatus ballast >&2; cat /run/log >&2' ERR
main() { systemctl show -P MainPID ballast; }
active() { [ "$(systemctl is-active ballast)" = active ]; }
answers() { exec 3<>"/dev/tcp/127.0.0.1/$1"; printf 'GET / HTTP/1.0\r\n\r\n' >&3; head -1 <&3 | grep -q ' 200 '; exec 3>&-; }

# As long as another unit names it, systemd remembers how it ended.
systemctl start keep.target ballast
active
answers $PORT
first=$(main)
[ "$(cat $RUN/*.pid)" = "$first" ]
[ "$(stat -c %a $RUN)" = 700 ]
for socket in $RUN/*.sock $RUN/*.upgrade; do [ "$(stat -c %a $socket)" = 600 ]; done

echo "process metrics are exported although the unit hides /proc"
grep -q ProcSubset=pid /etc/systemd/system/ballast.service
exec 3<>"/dev/tcp/127.0.0.1/$ADMIN"
printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
cat <&3 >/run/metrics
exec 3>&-
for name in $METRICS; do
    if ! grep -q "^$name " /run/metrics; then echo "there is no $name" >&2; cat /run/metrics >&2; exit 1; fi
done
began=$(sed -n 's/^process_start_time_seconds //p' /run/metrics)
age=$(( $(date +%s) - ${began%.*} ))
[ $age -ge -2 ] && [ $age -le 120 ]
[ "$(sed -n 's/^process_max_fds //p' /run/metrics)" -ge 1024 ]

echo "a reload in place"
sed -i 's/grace_period: 5s/grace_period: 6s/' $FILE
systemctl reload ballast
[ "$(main)" = "$first" ]
active
answers $PORT

echo "a reload that needs a new process, twice"
before=$first
for listeners in "\"127.0.0.1:$PORT\", \"127.0.0.1:$SECOND\"" "\"127.0.0.1:$PORT\""; do
    sed -i "s/^listeners: .*/listeners: [$listeners]/" $FILE
    systemctl reload ballast
    for _ in $(seq 100); do [ "$(main)" != "$before" ] && break; sleep 0.05; done
    now=$(main)
    [ "$now" != "$before" ]
    [ "$(cat $RUN/*.pid)" = "$now" ]
    grep -q ballast /proc/$now/comm
    active
    answers $PORT
    # It ends by itself, although it is no longer the main process.
    for _ in $(seq 100); do [ -e /proc/$before ] || break; sleep 0.1; done
    [ ! -e /proc/$before ]
    active
    before=$now
done

echo "an invalid file"
cp $FILE $FILE.good
echo 'nonsense: 1' >>$FILE
if systemctl reload ballast; then echo "a bad file was taken" >&2; exit 1; fi
[ "$(main)" = "$before" ]
active
answers $PORT
cp $FILE.good $FILE

echo "a clean stop with any version of cgroups"
systemctl stop ballast
[ ! -e /proc/$before ]
[ "$(systemctl show -P Result ballast)" = success ]
[ "$(systemctl show -P ExecMainCode ballast)" = 1 ]
[ "$(systemctl show -P ExecMainStatus ballast)" = 0 ]
[ "$(systemctl is-active ballast)" = inactive ]
[ ! -e $RUN ]

echo "a crashed successor is detected and started again"
systemctl start ballast
before=$(main)
sed -i "s/^listeners: .*/listeners: [\"127.0.0.1:$PORT\", \"127.0.0.1:$SECOND\"]/" $FILE
systemctl reload ballast
for _ in $(seq 100); do [ "$(main)" != "$before" ] && break; sleep 0.05; done
for _ in $(seq 100); do [ -e /proc/$before ] || break; sleep 0.1; done
before=$(main)
kill -KILL $before
for _ in $(seq 100); do now=$(main); active && [ "$now" != "$before" ] && break; sleep 0.1; done
[ "$now" != "$before" ]
active
[ "$(systemctl show -P NRestarts ballast)" = 1 ]
answers $PORT
systemctl stop ballast
[ "$(systemctl is-active ballast)" = inactive ]
echo "all is well"
"#;

#[test]
fn the_unit_starts_reloads_and_stops_under_a_real_systemd() {
    if peer("systemctl").is_none() || peer("unshare").is_none() {
        println!("{STAND_IN}");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let backend = Backend::start_new("a");
    let (first, second, admin) = (free(), free(), free());
    let units = folder.path().join("units");
    std::fs::create_dir(&units).expect("the folder can be written");
    // The test does not change the machine's `/usr` and `/etc`, so the unit gets other paths and an existing user.
    let unit = UNIT
        .replace("/usr/bin/ballast", "/run/test/ballast")
        .replace("/etc/ballast/ballast.yaml", "/run/test/ballast.yaml")
        .replace("User=ballast", "User=nobody")
        .replace("Group=ballast", "Group=nogroup")
        .replace("[Service]\n", "[Service]\nStandardError=append:/run/log\n");
    file(&units, "ballast.service", &unit);
    file(&units, "keep.target", "[Unit]\nAfter=ballast.service\n");
    let yaml = Setup::of(&[&backend])
        .top(&format!("listeners: [\"{first}\"]"))
        .top("server: { grace_period: 5s }")
        .top(&format!("admin: {{ address: \"{admin}\" }}"))
        .yaml();
    file(&units, "ballast.yaml", &yaml);
    std::fs::copy(env!("CARGO_BIN_EXE_ballast"), units.join("ballast")).expect("there is room");
    let script = format!(
        "mkdir -p /run/test; cp /etc/systemd/system/ballast /etc/systemd/system/ballast.yaml /run/test/; \
         chmod -R a+rX /run/test; \
         PORT={} SECOND={} ADMIN={} METRICS='{}' FILE=/run/test/ballast.yaml RUN=/run/ballast bash -c '{}'",
        first.port(),
        second.port(),
        admin.port(),
        metrics_of_the_process().join(" "),
        INSIDE.replace('\'', r"'\''")
    );
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/support/systemd-ns");
    let output = Command::new(boot)
        .arg(&units)
        .args(["bash", "-c", &script])
        .output()
        .expect("bash is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.code() == Some(77) {
        println!("skipped, systemd cannot be booted here; {STAND_IN}: {stderr}");
        return;
    }
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("all is well"), "{stdout}\n{stderr}");
}

/// The `process_` metrics that the alerts and the dashboard query, and those that every exporter has.
fn metrics_of_the_process() -> Vec<&'static str> {
    let asked = [
        include_str!("../../conf/alerts.yml"),
        include_str!("../../conf/grafana-dashboard.json"),
    ];
    let words = asked
        .iter()
        .flat_map(|text| text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    let mut names = Vec::from_iter(words.filter(|word| word.starts_with("process_")));
    names.extend([
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_threads",
        "process_virtual_memory_bytes",
    ]);
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn the_unit_is_hardened() {
    if peer("systemd-analyze").is_none() {
        return;
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/ballast.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=30"])
        .arg(unit)
        .output()
        .expect("the file exists");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "more than 3.0:\n{text}");
}
