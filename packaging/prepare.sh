# shellcheck shell=bash
# What quickstart and test have in common: system packages, the virtual environment, the build.
# Sourced, not run. Expects the working directory to be the repository's root.
#
# - Nothing outside the repository is changed except by apt-get, and only for what is missing.
# - A second call with the same sources does nothing but compare a checksum.
# - Every step that talks to the network or compiles has a time limit.

venv=${EDGED_VENV:-$PWD/.venv}
stamp=$venv/edged-installed
install_log=build/install.log

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi

say() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '    %s\n' "$*"; }

# usage FILE: the comment at a script's head.
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$1"; }

# fail TEXT [LINE...]: what went wrong, then what to do about it, one per line; ends the script.
fail() {
    local line
    printf '%serror:%s %s\n' "$bold" "$plain" "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# limited SECONDS COMMAND...: the command's status, or 124 after so many seconds.
limited() {
    local seconds=$1
    shift
    timeout --kill-after=10 "$seconds" "$@"
}

find_python() {
    python=${EDGED_PYTHON:-python3}
    command -v "$python" >/dev/null ||
        fail "there is no $python" "install Python 3.10 or later, or name one with EDGED_PYTHON"
    python_version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
        fail "$python does not run"
    "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 10))' ||
        fail "$python is Python $python_version, edged needs 3.10 or later" \
            "name another with EDGED_PYTHON"
}

# Asks for the things themselves, not for packages: they may have come from elsewhere.
missing_packages() {
    local include
    if ! echo '#include <stdio.h>' | gcc -fsyntax-only -x c - 2>/dev/null; then
        echo gcc libc6-dev
    fi
    if ! command -v pkg-config >/dev/null; then
        echo pkg-config
    fi
    if ! pkg-config --exists libsystemd 2>/dev/null; then
        echo libsystemd-dev
    fi
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "python$python_version-venv"
    fi
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    if [ ! -e "$include/Python.h" ]; then
        echo "python$python_version-dev"
    fi
}

# What runs models in containers; edged does without where they cannot be had.
missing_container_packages() {
    # It is among the administrator's programs, which an ordinary user's path need not have.
    if ! PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v runc >/dev/null; then
        echo runc
    fi
    if [ ! -r /usr/share/containers/seccomp.json ]; then
        echo golang-github-containers-common
    fi
}

# What some tests use and skip without; only packaging/test asks for it.
missing_test_packages() {
    local program
    missing_container_packages
    # A real registry, and the tools that must read what we write and write what we read.
    for program in docker-registry skopeo umoci; do
        if ! command -v "$program" >/dev/null; then
            echo "$program"
        fi
    done
    # A real broker; it is among the administrator's programs.
    if ! PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v mosquitto >/dev/null; then
        echo mosquitto
    fi
    # The units, a Debian that boots, the package that is installed there.
    if ! command -v systemd-analyze >/dev/null; then
        echo systemd
    fi
    if ! command -v systemd-nspawn >/dev/null; then
        echo systemd-container
    fi
    for program in debootstrap lintian; do
        if ! command -v "$program" >/dev/null; then
            echo "$program"
        fi
    done
    if ! command -v dh >/dev/null; then
        echo debhelper
    fi
    if ! command -v groff >/dev/null; then
        echo groff-base
    fi
    # Another clock, for a device whose own is wrong; the library does it, the command is beside it.
    if ! command -v faketime >/dev/null; then
        echo faketime
    fi
    # The kernels for ARM: a compiler, its C library, an emulator.
    if ! command -v aarch64-linux-gnu-gcc >/dev/null; then
        echo gcc-aarch64-linux-gnu
    fi
    if ! echo '#include <stdio.h>' | aarch64-linux-gnu-gcc -fsyntax-only -x c - 2>/dev/null; then
        echo libc6-dev-arm64-cross
    fi
    if ! command -v qemu-aarch64-static >/dev/null && ! command -v qemu-aarch64 >/dev/null; then
        echo qemu-user-static
    fi
    # The kernels for AVX-512: an emulated PC, whose screen needs no window. It brings Bochs itself; the
    # tests take a Linux for it.
    if [ "$(uname -m)" = x86_64 ] && ! { command -v bochs &&
        compgen -G '/usr/lib/*/bochs/plugins/libbx_term_gui.so'; } >/dev/null; then
        echo bochs-term
    fi
}

# install_test_packages: what can be had of them; the tests say what they miss.
install_test_packages() {
    install_what_can_be_had tests "some tests will skip" missing_test_packages
}

install_container_packages() {
    install_what_can_be_had containers "models may not run in containers" missing_container_packages
}

# install_what_can_be_had PURPOSE CONSEQUENCE FUNCTION: of the packages that the function names.
install_what_can_be_had() {
    local missing package root=()
    read -r -d '' -a missing < <("$3") || true
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || root=(sudo -n)
    if ! command -v apt-get >/dev/null || ! "${root[@]}" true 2>/dev/null; then
        note "$2 for want of ${missing[*]}"
        return 0
    fi
    say "system packages for $1: ${missing[*]}"
    (apt_get 300 update) || true
    for package in "${missing[@]}"; do
        if (apt_get 900 install --yes --no-install-recommends "$package"); then
            stop_service "$package"
        else
            note "$2 for want of $package"
        fi
    done
}

# stop_service PACKAGE: what was installed for its program alone shall not run as a service of this
# machine, on a port that another may want.
stop_service() {
    case $1 in mosquitto | docker-registry) ;; *) return 0 ;; esac
    [ -d /run/systemd/system ] || return 0
    limited 60 "${root[@]}" systemctl --quiet disable --now "$1.service" ||
        note "cannot stop the service $1; stop it with: systemctl disable --now $1"
}

install_packages() {
    local missing root=()
    read -r -d '' -a missing < <(missing_packages) || true
    [ ${#missing[@]} -gt 0 ] || return 0

    if ! command -v apt-get >/dev/null; then
        fail "this machine lacks what these packages of Debian hold: ${missing[*]}" \
            "there is no apt-get here: install your system's equivalents, then run this again"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        root=(sudo)
        # Without a terminal nobody can type a password: fail at once instead of waiting for one.
        [ -t 0 ] || root=(sudo -n)
        if ! command -v sudo >/dev/null || ! "${root[@]}" true; then
            fail "these system packages are missing: ${missing[*]}" \
                "run as root: apt-get install ${missing[*]}" "then run this again"
        fi
    fi
    say "system packages: ${missing[*]}"
    apt_get 300 update
    apt_get 900 install --yes --no-install-recommends "${missing[@]}"
    read -r -d '' -a missing < <(missing_packages) || true
    [ ${#missing[@]} -eq 0 ] ||
        fail "apt-get succeeded, but these still do not work: ${missing[*]}" \
            "is $python ($(command -v "$python")) the system's own? EDGED_PYTHON names another"
}

# apt_get SECONDS ARGUMENT...: waits for another apt, never asks, and shows its output if it fails.
apt_get() {
    local seconds=$1 output status=0
    shift
    output=$(limited "$seconds" "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q \
        -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" 2>&1 </dev/null) || status=$?
    [ "$status" -eq 0 ] || {
        printf '%s\n' "$output" | tail -n 30 >&2
        fail "apt-get $1 failed (status $status; 124 means its time limit of $seconds s)"
    }
}

# Everything that decides what an installation holds, except edged's Python files, which an editable
# installation reads where they are.
source_checksum() {
    {
        "$python" -c 'import sys, platform; print(sys.version, platform.machine())'
        find pyproject.toml setup.py ext -type f ! -path 'ext/_*.c' \
            \( -name '*.toml' -o -name '*.py' -o -name '*.pyx' -o -name '*.pxd' \
            -o -name '*.[chS]' -o -name '*.inc' \) -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum | cut -d' ' -f1
}

# installed SUM EXTRA...: is that what the stamp says, with all of these extras?
installed() {
    local sum=$1 have extra
    shift
    [ -x "$venv/bin/python" ] && [ -r "$stamp" ] || return 1
    read -r have <"$stamp"
    [ "${have%% *}" = "$sum" ] || return 1
    for extra in "$@"; do
        case " ${have#* } " in *" $extra "*) ;; *) return 1 ;; esac
    done
    "$venv/bin/python" -c 'import edged.npu._native, edged.worker.stages._image' 2>/dev/null
}

# Is there an environment already, whole and of this Python?
environment_fits() {
    [ "$("$venv/bin/python" -c 'import sys, pip; print("%d.%d" % sys.version_info[:2])' \
        2>/dev/null)" = "$python_version" ]
}

# Compiles edged's own modules, as pip does with what it does not install as editable: where Python is
# told to write no bytecode, and in containers, which cannot, every start would compile them anew.
compile_modules() {
    "$venv/bin/python" -m compileall -q edged || fail "cannot compile the modules of edged"
}

# install_edged EXTRA...: the virtual environment with edged built and installed in it.
install_edged() {
    local sum extras status=0
    mkdir -p build
    # Two of these at once would build into the same folders.
    exec 9>build/lock
    flock --timeout 900 9 || fail "another run still holds build/lock after 15 minutes"
    sum=$(source_checksum)
    if installed "$sum" "$@"; then
        compile_modules
        exec 9>&-
        return 0
    fi
    install_packages
    say "virtual environment: $venv (Python $python_version)"
    rm -f "$stamp"
    if ! environment_fits; then
        limited 120 "$python" -m venv --clear "$venv" >"$install_log" 2>&1 ||
            fail "cannot make a virtual environment in $venv" "$(tail -n 5 "$install_log")"
    fi
    extras=$(IFS=,; echo "$*")
    say "build and install edged[$extras]"
    limited "${EDGED_INSTALL_TIMEOUT:-1200}" "$venv/bin/python" -m pip install --no-input \
        --progress-bar off --disable-pip-version-check --editable ".[$extras]" >"$install_log" 2>&1 || status=$?
    [ "$status" -eq 0 ] || {
        tail -n 30 "$install_log" >&2
        fail "pip could not install edged (status $status; 124 means its time limit)" \
            "everything it said is in $install_log"
    }
    "$venv/bin/python" -c 'import edged.npu._native, edged.worker.stages._image' ||
        fail "edged was installed, but its native part does not load" "see $install_log"
    echo "$sum $*" >"$stamp"
    compile_modules
    exec 9>&-
}
