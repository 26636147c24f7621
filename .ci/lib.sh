# What the steps share. Sourced by them; leaves the shell at the top of the repository.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

published=(pollio pollio-core pollio-epoll pollio-kqueue)
packages=()
for name in "${published[@]}"; do
    packages+=(--package "$name")
done

# Tools and toolchains are kept here, outside the tree and between runs.
cache="${POLLIO_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pollio-ci}"
mkdir -p "$cache"

# Tests wait more than they work: more of them than processors at a time, unless told otherwise.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-8}"

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# Debian's package lists, at most an hour old.
apt_update() {
    if [[ -z "$(find "$cache/apt-updated" -mmin -60 2>/dev/null)" ]]; then
        as_root apt-get update -qq
        touch "$cache/apt-updated"
    fi
}

apt_install() {
    apt_update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
}

# need TOOL...: installs those that are missing, where each is the name of its Debian package.
need() {
    local tool
    for tool in "$@"; do
        if ! command -v "$tool" >/dev/null; then
            command -v apt-get >/dev/null || fail "the tests need $tool"
            apt_install "$tool"
        fi
    done
}

# Tests on Linux inject faults into system calls, and count them, with strace.
need_strace() {
    [[ "$(uname)" != Linux ]] || need strace
}

# keep FOLDER COMMAND...: runs the command with the path of a new folder, which becomes FOLDER only if all
# went well: a run that was cut short leaves nothing half-made to the next.
keep() {
    local folder=$1
    shift
    if [[ -d "$folder" ]]; then
        return
    fi
    part="$folder.part.$$"
    trap 'rm -rf "$part"' EXIT
    mkdir "$part"
    "$@" "$part"
    mv -T "$part" "$folder" || [[ -d "$folder" ]] # another run was faster
}

# debian_toolchain SERIES PACKAGE...: unpacks the newest of Debian's rustc-web packages whose version starts with
# SERIES, which may be empty, and the packages named, and has cargo use them. They are not installed: nothing else on
# the machine sees them. Sets `toolchain` to the folder. A package that is not there ends the step.
debian_toolchain() {
    local series=$1 version
    shift
    command -v apt-get >/dev/null ||
        fail "no std for these targets in $(rustc --print sysroot), and no apt-get to get a toolchain that can build it"
    apt_update
    version=$(apt-cache madison rustc-web | awk '{ print $3 }' | grep "^$series" | sort --version-sort --unique | tail -n 1) ||
        fail "Debian has no rustc-web ${series:-at all}"
    toolchain="$cache/rustc-web-$version"
    keep "$toolchain" unpack_debian "${@/%/=$version}"
    toolchain="$toolchain/usr"
    export RUSTC="$toolchain/bin/rustc" RUSTDOC="$toolchain/bin/rustdoc"
    export LD_LIBRARY_PATH="$toolchain/lib/x86_64-linux-gnu"
    "$RUSTC" --version
}

# Debian's newest toolchain as if it were nightly, with std's source: for -Zbuild-std. Sets `toolchain`.
debian_nightly() {
    debian_toolchain '' rustc-web libstd-rust-web-dev rust-web-src rust-web-clippy
    export RUSTC_BOOTSTRAP=1
}

# unpack_debian PACKAGE=VERSION... FOLDER: unpacks the packages, and what else they need that is not installed.
unpack_debian() {
    local folder="${*: -1}" named=("${@:1:$#-1}") needed
    needed=$(apt-get install --simulate --no-install-recommends "${named[@]}" |
        sed -nE 's/^Inst ([^ ]+) .*\(([^ ]+) .*/\1=\2/p')
    mapfile -t needed < <(printf '%s\n' "${named[@]}" "$needed" | sort --unique)
    mkdir "$folder/debs"
    (cd "$folder/debs" && apt-get download -qq -o APT::Sandbox::User=root "${needed[@]}")
    for deb in "$folder"/debs/*.deb; do
        dpkg-deb --extract "$deb" "$folder"
    done
    rm -r "$folder/debs"
}

# The line under `# COMMENT` in the README's code blocks: what the page tells people to run is what runs here.
readme_command() {
    local command
    command=$(awk -v comment="# $1" '
        /^```/ { inside = !inside }
        found { print; exit }
        inside && index($0, comment) == 1 { found = 1 }
    ' README.md)
    case $command in
        '' | '#'* | '```'*) fail "README.md has no command under '# $1' in a code block" ;;
    esac
    printf '%s\n' "$command"
}
