# Packs redis-server of Debian (or a relative) and the libraries it links into files.tar.
#
# Usage: sh unpack.sh FOLDER, an empty one, for all that is written. Installs nothing, needs no root.
set -eu
work=$1
cd "$work"

apt_options=
apt() {
    program=$1
    shift
    "$program" -q $apt_options "$@"
}

# The packages, one a line: redis-server, redis-tools (its program is a link to one of those) and, from
# there on, libraries only.
closure() {
    queue=redis-server
    : >closure.txt
    while [ -n "$queue" ]; do
        printf '%s\n' $queue >>closure.txt
        queue=$(
            apt apt-cache depends $queue |
                sed -n 's/^ *|\{0,1\}\(Pre\)\{0,1\}Depends: //p' |
                grep -E '^(redis-tools|lib[a-z0-9.+-]+)(:any)?$' | sed 's/:any$//' | sort -u |
                grep -vxFf closure.txt || true
        )
    done
    cat closure.txt
}

download() {
    rm -rf packages
    mkdir packages
    apt apt-cache show redis-server >/dev/null || return 1
    # An alternative may name a package that does not exist here: only those that do.
    names=$(apt apt-cache show --no-all-versions $(closure) | sed -n 's/^Package: //p' | sort -u)
    (cd packages && apt apt-get download $names)
}

for program in apt-get apt-cache dpkg-deb tar; do
    command -v $program >/dev/null || { echo "$program is needed and is not here" >&2; exit 1; }
done

# The machine's own package lists may be missing or too old: then fresh ones, in a folder of ours.
if ! download; then
    mkdir -p lists/partial cache/archives/partial
    apt_options="-o Dir::State::Lists=$work/lists -o Dir::Cache=$work/cache"
    apt apt-get update
    download
fi

# Folders of a merged /usr, whatever the packages think of it.
mkdir -p files/usr/bin files/usr/lib files/usr/lib64 files/usr/sbin files/tmp files/data
ln -s usr/bin usr/lib usr/lib64 usr/sbin files
for package in packages/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --no-same-owner -C files
done
rm -rf files/usr/share files/etc files/var
[ -e files/usr/bin/redis-server ] || { echo "no redis-server in the package" >&2; exit 1; }
tar -c --owner=0 --group=0 --numeric-owner -f files.tar -C files .
