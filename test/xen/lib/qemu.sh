# shellcheck shell=bash
# Booting: Xen, dom0 and its ramdisk under QEMU's software emulation.

# boot_disk DIR writes the dom0 ramdisk of one run, DIR/dom0.cpio: the cached part,
# and the guest with its kernel and ramdisk in DIR/dom0/guest.
boot_disk() {
	local dir=$1 image
	image=$(dom0_image)
	{
		cat "$image"
		pack "$dir/dom0"
	} >"$dir/dom0.cpio"
}

# guest_config VCPUS EXTRA prints xl's configuration of the guest.
guest_config() {
	cat <<-EOF
		name = "guest"
		type = "pv"
		kernel = "/guest/vmlinux"
		ramdisk = "/guest/initrd"
		memory = 1024
		vcpus = $1
		extra = "console=hvc0 panic=-1 loglevel=6 $2"
		vif = ["script=vif-lab,mac=$guest_mac,vifname=guest0"]
		on_crash = "destroy"
		on_reboot = "destroy"
	EOF
}
guest_mac=00:16:3e:00:00:01

# qemu_command DIR SERIAL prints, one word a line, the command that boots the run in
# DIR: Xen and dom0 write to DIR/xen.log, the guest's console is SERIAL.
#
# The processor is qemu64: with AVX or SMAP, which -cpu max has, this emulation
# corrupts a PV guest's vector registers or kills dom0. Hardware acceleration is not
# used: where /dev/kvm exists in a virtual machine it often does not work.
qemu_command() {
	local dom0=$cache/kernel/$dom0_kernel/vmlinux
	printf '%s\n' qemu-system-x86_64 \
		-accel tcg,thread=multi -cpu qemu64 -smp 2 -m 3G \
		-display none -nodefaults -no-reboot -nic none -parallel none -monitor none \
		-kernel "$cache/userland/xen.elf" \
		-append "console=com1 com1=115200,8n1 dom0_mem=1G,max:1G dom0_max_vcpus=2 bootscrub=0 spec-ctrl=no" \
		-initrd "$dom0 console=hvc0 earlyprintk=xen quiet panic=-1 mitigations=off cryptomgr.notests,$1/dom0.cpio" \
		-serial "file:$1/xen.log" -serial "$2"
}
