# Unpacks a server into FOLDER, a new one, without root and without installing anything. FOLDER/redis-server
# starts it.
#
#   sh unpack.sh FOLDER package SUITE NAME    of Debian's SUITE; `-` is the suite of this machine, Debian's or
#                                             a relative's. APT verifies signatures.
#   sh unpack.sh FOLDER wheel NAME==VERSION sha256:SUM
#                                             of PyPI. It links with the libraries of this machine.
set -eu
work=$1 kind=$2
mkdir -p "$work"
work=$(cd "$work" && pwd)
cd "$work"

die() {
    echo "$*" >&2
    exit 1
}

need() {
    for program in "$@"; do
        command -v "$program" >/dev/null || die "$program is needed and is not here"
    done
}

unpack_wheel() {
    need python3
    mkdir wheel
    echo "$1 --hash=$2" >wheel/requirements.txt
    # The wheel of the pinned sum, whatever the version of this machine's Python.
    python3 -m pip -q download --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --python-version 3.11 --implementation cp --abi cp311 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        --dest wheel --requirement wheel/requirements.txt >&2
    python3 -m zipfile -e wheel/*.whl files
    server=$(find files -path '*/bin/redis-server')
    chmod +x "$server"
    ln -s "$server" redis-server
    rm -rf wheel
}

unpack_package() {
    need apt-get apt-cache apt-config dpkg-deb tar
    suite=$1 package=$2 apt_options=
    # The machine's own package lists may be missing, too old or of another suite: then fresh ones, in a folder
    # of ours.
    if [ "$suite" != - ]; then
        sources_of "$suite" >suite.list
        : >status
        apt_options="-o Dir::Etc::SourceList=$work/suite.list -o Dir::Etc::SourceParts=-"
        apt_options="$apt_options -o Dir::State::Status=$work/status -o APT::Default-Release="
    fi
    if [ "$suite" != - ] || ! download "$package"; then
        mkdir -p lists/partial cache/archives/partial
        apt_options="$apt_options -o Dir::State::Lists=$work/lists -o Dir::Cache=$work/cache"
        apt_options="$apt_options -o Acquire::Languages=none"
        apt apt-get update >&2
        download "$package"
    fi
    # Folders of a merged /usr, whatever the packages think of it.
    mkdir -p files/usr/bin files/usr/lib files/usr/lib64 files/usr/sbin files/tmp files/data
    ln -s usr/bin usr/lib usr/lib64 usr/sbin files
    for archive in packages/*.deb; do
        dpkg-deb --fsys-tarfile "$archive" | tar -x --keep-directory-symlink --no-same-owner -C files
    done
    rm -rf files/usr/share files/etc files/var lists cache packages closure.txt status suite.list
    [ "$package" = redis-server ] || ln -s "$package" files/usr/bin/redis-server
    [ -e files/usr/bin/redis-server ] || die "no server in the package $package"
    # By the loader and the libraries that came with it, which may be newer than those of this machine.
    cat >redis-server <<'END'
#!/bin/sh
files=$(dirname "$(readlink -f "$0")")/files
for loader in "$files"/usr/lib*/ld-linux*.so.* "$files"/usr/lib/*/ld-linux*.so.*; do
    [ ! -e "$loader" ] || break
done
exec "$loader" --library-path "$(echo "$files"/usr/lib/*-linux-gnu*)" "$files/usr/bin/redis-server" "$@"
END
    chmod +x redis-server
}

# Debian's archive for a suite, at the mirror that this machine uses.
sources_of() {
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keyring" ] || die "$keyring is needed and is not here: the package debian-archive-keyring holds it"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$' || true)
    echo "deb [signed-by=$keyring] ${mirror:-http://deb.debian.org/debian} $1 main"
}

download() {
    rm -rf packages
    mkdir packages
    apt apt-cache show "$1" >/dev/null || return 1
    # An alternative may name a package that does not exist here: only those that do.
    names=$(apt apt-cache show --no-all-versions $(closure "$1") | sed -n 's/^Package: //p' | sort -u)
    (cd packages && apt apt-get download $names >&2)
}

# The packages, one a line: the server, its tools (its program is a link to one of those) and, from there on,
# libraries only.
closure() {
    queue=$1
    : >closure.txt
    while [ -n "$queue" ]; do
        printf '%s\n' $queue >>closure.txt
        queue=$(
            apt apt-cache depends $queue |
                sed -n 's/^ *|\{0,1\}\(Pre\)\{0,1\}Depends: //p' |
                grep -E '^((redis|valkey)-tools|(lib|lua-)[a-z0-9.+-]+)(:any)?$' | sed 's/:any$//' | sort -u |
                grep -vxFf closure.txt || true
        )
    done
    cat closure.txt
}

apt() {
    program=$1
    shift
    "$program" -q $apt_options "$@"
}

shift 2
"unpack_$kind" "$@"
