# Sourced, from any directory, by tests/run and example_projects/run: `prepare EXTRAS` leaves $python, the
# interpreter of a virtual environment of this checkout with appsrv and the extras in it.
#   PYTHON=python3.12       the interpreter to make it with (default: python3)
#   APPSRV_VENV=/some/dir   where it lies (default: .venv in the checkout)

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${APPSRV_VENV:-$top/.venv}
python=$venv/bin/python

# pytest rewrites every `assert` that it imports. Bytecode keeps what it wrote: seconds of each process that runs tests.
unset PYTHONDONTWRITEBYTECODE

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Install Debian packages, where that is possible without asking anybody.
apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  say "installing $*"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
    >/dev/null 2>&1
}

# Debian's python3 comes without what `python3 -m venv` needs.
find_interpreter() {
  local base=${PYTHON:-python3}
  command -v "$base" >/dev/null || apt_install python3 || die "no $base here; install Python 3.10 or newer"
  "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "appsrv needs Python 3.10 or newer: $("$base" -V)"
  "$base" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv \
    || die "this Python cannot make virtual environments; apt-get install python3-venv"
  printf '%s' "$base"
}

# What the environment was made from: made again when it changes.
fingerprint() {
  (cd "$top" && cat setup.cfg pyproject.toml .ci/environment.sh django_integration/appsrv_django.* 2>/dev/null
   echo "$1 ${PYTHON:-python3}") | cksum
}

prepare() {
  local extras=$1 stamp=$venv/.made-from base
  [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint "$extras")" ] && return
  base=$(find_interpreter) || exit 1
  "$python" -c '' 2>/dev/null || { say "making $venv"; "$base" -m venv --clear "$venv" || die "cannot make $venv"; }
  say "installing appsrv[$extras] into $venv"
  "$python" -m pip install --quiet --disable-pip-version-check -e "$top[$extras]" || die "installing appsrv failed"
  fingerprint "$extras" > "$stamp"
}
