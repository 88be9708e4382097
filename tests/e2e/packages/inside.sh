# The life of the package, step by step with the test outside, which reads the lines and answers each `step`. The root is
# private. $PACKAGES has first.deb and second.deb.
set -eu
# dpkg needs ldconfig and start-stop-daemon.
export PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive
show() { systemctl show --property "$1" --value ballast; }
trap 'echo "failed: $BASH_COMMAND" >&2; show ActiveState >&2; show Result >&2; cat /run/log /run/dpkg.log >&2' ERR
step() { echo "$1"; read -r _; }
# The caches of other packages, such as that of man-db, are not of interest, and what is written need not last.
package() { dpkg --no-triggers --force-unsafe-io "$@" >>/run/dpkg.log 2>&1; }
until_gone() { for _ in $(seq 400); do [ -e "/proc/$1" ] || return 0; sleep 0.1; done; return 1; }
touch /run/log /run/dpkg.log
echo booted
# Images of containers forbid with this that services are started.
rm -f /usr/sbin/policy-rc.d

package --install "$PACKAGES/first.deb"
[ "$(systemctl is-active ballast)" = active ]
[ "$(systemctl is-enabled ballast)" = enabled ]
[ "$(stat -c %U "/proc/$(show MainPID)")" = ballast ]
[ "$(stat -c '%U %a' /var/lib/ballast)" = 'ballast 700' ]
[ "$(stat -c '%U %a' /var/log/ballast)" = 'ballast 750' ]
[ -z "$(dpkg --verify ballast)" ]
ballast check >/run/check
logrotate --debug /etc/logrotate.d/ballast >/run/logrotate 2>&1
grep -q 'ballast)' /usr/share/bash-completion/completions/ballast
gzip -t /usr/share/man/man1/ballast.1.gz /usr/share/man/man5/ballast.yaml.5.gz
echo '# edited' >>/etc/ballast/ballast.yaml
step installed

before=$(show MainPID)
package --install "$PACKAGES/second.deb"
now=$(show MainPID)
[ "$now" != "$before" ]
[ "$(stat -L -c %i "/proc/$now/exe")" = "$(stat -c %i /usr/bin/ballast)" ]
[ "$(dpkg-query -W -f '${Version}' ballast)" = "$SECOND_VERSION" ]
grep -q '# edited' /etc/ballast/ballast.yaml
[ "$(systemctl is-active ballast)" = active ]
step upgraded

until_gone "$before"
[ "$(show MainPID)" = "$now" ]
package --remove ballast
[ ! -e "/proc/$now" ]
[ ! -e /usr/bin/ballast ]
[ "$(systemctl is-active ballast)" = inactive ]
grep -q '# edited' /etc/ballast/ballast.yaml
[ -d /var/lib/ballast ]
step removed

package --install "$PACKAGES/second.deb"
[ "$(systemctl is-active ballast)" = active ]
grep -q '# edited' /etc/ballast/ballast.yaml
package --purge ballast
for left in /etc/ballast /etc/logrotate.d/ballast /var/lib/ballast /var/log/ballast /usr/share/doc/ballast /run/ballast; do
    [ ! -e $left ]
done
[ -z "$(find /etc/systemd/system /usr/lib/systemd -name 'ballast.service')" ]
[ "$(dpkg-query -W -f '${Status}' ballast 2>/dev/null)" = '' ]
step purged
