# What the scripts share. A script sources this file, which leaves the shell at the top of the repository.
# shellcheck shell=bash disable=SC2034 # the scripts use the variables
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

published=(pollio pollio-core pollio-epoll pollio-kqueue)
packages=("${published[@]/#/--package=}")

# Tools and toolchains stay here between runs, outside the tree.
cache="${POLLIO_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pollio-ci}"
mkdir -p "$cache"

target_dir="${CARGO_TARGET_DIR:-$PWD/target}"

# A tree is built once, so incremental data is of no use. A failing test says its line, and backtraces keep the names of
# functions without debug information. Both save time and disk.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=none

# Tests wait more than they compute, so more of them run at a time than there are processors.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-16}"

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# Updates Debian's package lists if they are older than an hour.
apt_update() {
    if [[ -z "$(find "$cache/apt-updated" -mmin -60 2>/dev/null)" ]]; then
        as_root apt-get update -qq
        touch "$cache/apt-updated"
    fi
}

# apt_install PACKAGE...: installs Debian's packages. The step fails where apt is missing.
apt_install() {
    command -v apt-get >/dev/null || fail "no apt-get to install what is missing: $*"
    apt_update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
}

# need TOOL[=PACKAGE]...: installs each tool that is missing. PACKAGE is Debian's package for it, by default TOOL.
need() {
    local tool
    for tool in "$@"; do
        command -v "${tool%=*}" >/dev/null || apt_install "${tool#*=}"
    done
}

# The tests on Linux need strace to count system calls and to make them fail.
need_strace() {
    [[ "$(uname)" != Linux ]] || need strace
}

# keep FOLDER COMMAND...: makes FOLDER if it does not exist yet. The command gets the path of a new folder, which becomes
# FOLDER only if the command succeeds. An interrupted run therefore leaves no half-made folder behind.
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

# cargo_tool NAME VERSION: compiles a tool from crates.io once, and puts it on the path.
cargo_tool() {
    keep "$cache/$1-$2" install_cargo_tool "$1@$2"
    PATH="$cache/$1-$2/bin:$PATH"
}
install_cargo_tool() {
    # A debug build takes half the time of a release build.
    cargo install --quiet --locked --debug "$1" --root "$2"
}

# Prints the line under `# COMMENT` in the README's code blocks, so that the steps run what the README tells people.
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
