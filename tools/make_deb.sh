#!/bin/sh
# make_deb.sh - builds build/elacsym_VERSION_ARCH.deb from build/release/elacsym.
set -eu
cd "$(dirname "$0")/.."

binary=build/release/elacsym
version=$("$binary" --version | cut -d ' ' -f 2)
architecture=$(dpkg --print-architecture)
root=build/deb/root
deb=build/elacsym_${version}_${architecture}.deb

rm -rf build/deb
install -D -m 755 --strip "$binary" $root/usr/bin/elacsym
install -D -m 644 packaging/elacsym.service $root/lib/systemd/system/elacsym.service
install -D -m 644 packaging/elacsym.bash $root/usr/share/bash-completion/completions/elacsym
install -d -m 755 $root/usr/share/man/man1 $root/usr/share/doc/elacsym/docs $root/etc/elacsym
gzip -9 -n -c packaging/elacsym.1 >$root/usr/share/man/man1/elacsym.1.gz
install -m 644 README.md ARCHITECTURE.md $root/usr/share/doc/elacsym
install -m 644 docs/*.md $root/usr/share/doc/elacsym/docs

# What the program is linked to, as packages and their least versions.
mkdir -p build/deb/debian
printf 'Source: elacsym\n' >build/deb/debian/control
depends=$(cd build/deb && dpkg-shlibdeps -O root/usr/bin/elacsym | sed 's/^shlibs:Depends=//')

mkdir -p $root/DEBIAN
cat >$root/DEBIAN/control <<CONTROL
Package: elacsym
Version: $version
Architecture: $architecture
Maintainer: The elacsym developers <elacsym@localhost>
Section: database
Priority: optional
Depends: $depends, ca-certificates
Installed-Size: $(du -sk $root | cut -f 1)
Description: search database for vectors, text and attributes
 Semantic, keyword and hybrid search over millions of documents in thousands
 of namespaces. The only durable state is a local directory or an S3 bucket;
 memory and disk are caches.
CONTROL
dpkg-deb --root-owner-group --build $root "$deb" >/dev/null
echo "$deb"
