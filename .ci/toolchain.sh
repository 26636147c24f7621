# Toolchains for targets, and for versions of Rust, that the toolchain at hand lacks. Sourced after lib.sh.
# Debian's packages are unpacked into the cache and not installed, so the machine stays as it is.
# shellcheck shell=bash disable=SC2034,SC2154 # variables of lib.sh, and for the scripts

# The flags with which cargo builds std from its source. Without the feature `backtrace`, which only gives backtraces their
# names, it takes three quarters of the time.
std_from_source=('-Zbuild-std=std,panic_abort' '-Zbuild-std-features=panic-unwind')

# use_std_of TARGET...: prepares to compile for these targets, with `cargo "${build_std[@]}" --target TARGET`. Takes the
# first of these toolchains: the one at hand if it has the std of all targets; rustup's nightly if it has the source of
# std; Debian's. The last two build std from its source. Sets `clippy` to the command of the toolchain's clippy.
use_std_of() {
    local libraries target missing=''
    build_std=()
    clippy=(cargo clippy)
    libraries="$(rustc --print sysroot)/lib/rustlib"
    for target in "$@"; do
        [[ -d "$libraries/$target/lib" ]] || missing=$target
    done
    if [[ -z "$missing" ]]; then
        return
    fi
    build_std=("${std_from_source[@]}")
    if nightly_has lib/rustlib/src/rust/library; then
        export RUSTUP_TOOLCHAIN=nightly
    else
        debian_nightly
        clippy=("$toolchain/bin/cargo-clippy" clippy)
    fi
}

# use_metadata_of_std TARGET...: like use_std_of, where programs are checked or documented and never run. If std is built
# from its source, it then has no machine code, which takes half the time.
use_metadata_of_std() {
    use_std_of "$@"
    if ((${#build_std[@]} > 0)); then
        export RUSTFLAGS='-Zno-codegen'
    fi
}

# nightly_has PATH: whether rustup has a nightly toolchain with this file.
nightly_has() {
    local sysroot
    sysroot=$(rustup run nightly rustc --print sysroot 2>/dev/null) && [[ -e "$sysroot/$1" ]]
}

# Takes Debian's newest toolchain with the source of std, and enables nightly features.
debian_nightly() {
    debian_toolchain '' rustc-web libstd-rust-web-dev rust-web-src rust-web-clippy
    export RUSTC_BOOTSTRAP=1
}

# debian_toolchain SERIES PACKAGE...: makes cargo use Debian's newest rustc-web whose version starts with SERIES, which
# may be empty. Unpacks these packages of that version. Sets `toolchain` to their folder.
debian_toolchain() {
    local series=$1 version
    shift
    command -v apt-get >/dev/null || fail "$(rustc --version) cannot do this step, and there is no apt-get to fetch another"
    apt_update
    version=$(apt-cache madison rustc-web | awk '{ print $3 }' | grep "^$series" | sort --version-sort --unique | tail -n 1) ||
        fail "Debian has no package rustc-web${series:+ $series}"
    toolchain="$cache/rustc-web-$version"
    keep "$toolchain" unpack_toolchain "${@/%/=$version}"
    toolchain="$toolchain/usr"
    export RUSTC="$toolchain/bin/rustc" RUSTDOC="$toolchain/bin/rustdoc"
    export LD_LIBRARY_PATH="$toolchain/lib/x86_64-linux-gnu"
    "$RUSTC" --version
}

# Debian's source package holds the compiler and its tools too, which are larger than the toolchain.
unpack_toolchain() {
    local folder="${*: -1}"
    unpack_debian "$@"
    rm -rf "${folder:?}"/usr/share "$folder"/usr/src/rustc-*/{compiler,src}
}

# unpack_debian PACKAGE[=VERSION]... FOLDER: unpacks the packages and those of their dependencies that are not installed.
unpack_debian() {
    local folder="${*: -1}" named=("${@:1:$#-1}") needed deb
    needed=$(apt-get install --simulate --no-install-recommends "${named[@]}" |
        sed -nE 's/^Inst ([^ ]+) .*\(([^ ]+) .*/\1=\2/p')
    mapfile -t needed < <(printf '%s\n' "${named[@]}" "$needed" | sort --unique)
    mkdir "$folder/debs"
    (cd "$folder/debs" && apt-get download -qq -o APT::Sandbox::User=root "${needed[@]}")
    for deb in "$folder"/debs/*.deb; do
        dpkg-deb --extract "$deb" "$folder"
        rm "$deb"
    done
    rmdir "$folder/debs"
}

# debian_version PACKAGE: prints the version that apt would install, for the name of a folder in the cache.
debian_version() {
    apt-cache policy "$1" | sed -nE 's/^ *Candidate: ([0-9]+:)?(.*)$/\2/p'
}
