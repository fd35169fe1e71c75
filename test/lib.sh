# SPDX-License-Identifier: Apache-2.0
# lib.sh: what test/demo and test/run have in common. To be sourced.
# shellcheck shell=bash

# Colours are for people: not in a file, not in a pipe, and not for those who do not want them (no-color.org).
bold='' green='' red='' dim='' plain=''
if [[ -t 1 && -z ${NO_COLOR-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
fi
# shellcheck disable=SC2034 # for those who source this
readonly bold green red dim plain

note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { note "$*"; exit 1; }

# need THING=PACKAGE…: installs the Debian package of each command or file that is not there.
need() {
    local pair thing
    local -a missing=()
    for pair in "$@"; do
        thing=${pair%%=*}
        if [[ $thing == /* ]]; then
            [[ -e $thing ]] || missing+=("${pair#*=}")
        else
            command -v "$thing" >/dev/null || missing+=("${pair#*=}")
        fi
    done
    ((${#missing[@]} > 0)) || return 0
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        die "missing: ${missing[*]}; on Debian: apt-get install ${missing[*]}"
    fi
    note "installing ${missing[*]}"
    apt_install "${missing[@]}" 2>/dev/null || { apt-get -qq update >&2 && apt_install "${missing[@]}"; } ||
        die "could not install ${missing[*]}: see above"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 \
        install --no-install-recommends "$@" </dev/null >&2
}

# need_to_build: what it takes to build the project. Go is not Debian's, which is too old.
need_to_build() {
    [[ -n ${HOME-} ]] || export HOME=/root # for go's caches
    [[ ! -d /usr/local/go/bin ]] || PATH=$PATH:/usr/local/go/bin
    command -v go >/dev/null || die "there is no go: see https://go.dev/doc/install"
    need meson=meson ninja=ninja-build pkg-config=pkg-config
}

# install_into DIR: builds the project and installs it into DIR/root. What the build prints is shown
# only when it fails.
install_into() {
    local dir=$1 status=0
    need_to_build
    {
        meson setup --prefix=/usr "$dir/build" &&
            meson compile -C "$dir/build" &&
            DESTDIR=$dir/root meson install -C "$dir/build" --no-rebuild
    } >"$dir/build.log" 2>&1 || status=$?
    ((status == 0)) || cat "$dir/build.log" >&2
    return "$status"
}

# boot_installed HOST DIR PROGRAM…: boots a throwaway host, with DIR as its /work, installs what install_into
# put there, and gives Podman an image localhost/agent of PROGRAM….
boot_installed() {
    local host=$1 dir=$2
    shift 2
    cp test/image "$dir/"
    test/host up "$host" --bind "$dir:/work"
    test/host run "$host" cp -a /work/root/. /
    test/host run "$host" systemctl enable --quiet --now tripleo-wrappers.target
    test/host run "$host" /work/image localhost/agent "$@" >/dev/null
}

# start_docker HOST: starts Docker there, and gives it Podman's localhost/agent.
start_docker() {
    test/host run "$1" systemctl start docker.service
    test/host run "$1" sh -c 'podman save --quiet --format=docker-archive localhost/agent | docker load --quiet' >/dev/null
}
