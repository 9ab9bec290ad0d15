# shellcheck shell=bash
# Every part of the lab's scripts, for the commands beside lib/ to take in.

# A command that fails in $(...) ends the script, as anywhere else.
shopt -s inherit_errexit

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# shellcheck source=lib/say.sh
. "$lab/lib/say.sh"
# shellcheck source=lib/cache.sh
. "$lab/lib/cache.sh"
# shellcheck source=lib/options.sh
. "$lab/lib/options.sh"
# shellcheck source=lib/apt.sh
. "$lab/lib/apt.sh"
# shellcheck source=lib/kernels.sh
. "$lab/lib/kernels.sh"
# shellcheck source=lib/build.sh
. "$lab/lib/build.sh"
# shellcheck source=lib/userland.sh
. "$lab/lib/userland.sh"
# shellcheck source=lib/devicemodel.sh
. "$lab/lib/devicemodel.sh"
# shellcheck source=lib/modules.sh
. "$lab/lib/modules.sh"
# shellcheck source=lib/gotool.sh
. "$lab/lib/gotool.sh"
# shellcheck source=lib/source.sh
. "$lab/lib/source.sh"
# shellcheck source=lib/toolchain.sh
. "$lab/lib/toolchain.sh"
# shellcheck source=lib/driver.sh
. "$lab/lib/driver.sh"
# shellcheck source=lib/initramfs.sh
. "$lab/lib/initramfs.sh"
# shellcheck source=lib/payload.sh
. "$lab/lib/payload.sh"
# shellcheck source=lib/tunnel.sh
. "$lab/lib/tunnel.sh"
# shellcheck source=lib/qemu.sh
. "$lab/lib/qemu.sh"
# shellcheck source=lib/machine.sh
. "$lab/lib/machine.sh"
# shellcheck source=lib/xl.sh
. "$lab/lib/xl.sh"
# shellcheck source=lib/boot.sh
. "$lab/lib/boot.sh"
