# shellcheck shell=bash
# The machine: Xen, dom0 and its ramdisk under QEMU's software emulation.

guest_mac=00:16:3e:00:00:01
memory=3G
# The size of the disk that carries a run's program into the guest and its output out of
# it: half each (relay/disk.go).
disk_size=1G

# guest_config NAME FILES VIFSCRIPT DISK prints xl's configuration of the guest for the
# settings in force; FILES is the directory of its kernel and ramdisk. A guest whose kernel
# hangs for 2 min dies: QEMU once went on to run a breakpoint that was not in memory any more.
guest_config() {
	cat <<-EOF
		name = "$1"
		type = "$type"
		kernel = "$2/vmlinux"
		ramdisk = "$2/initrd"
		memory = 1024
		vcpus = $vcpus
		extra = "console=hvc0 panic=-1 loglevel=6 softlockup_panic=1 watchdog_thresh=60 $(type_words)$append"
		vif = ["script=$3,mac=$guest_mac,vifname=guest0$([[ $type != hvm ]] || printf ,type=vif)"]
		disk = ["$4"]
		on_crash = "destroy"
		on_reboot = "destroy"
	EOF
	# Otherwise Xen intercepts RDTSC: of four guests that died of a triple fault two had just
	# come back from one.
	[[ $type = pv ]] || echo 'tsc_mode = "native"'
	[[ $type != hvm ]] || printf '%s\n' 'vga = "none"' 'vnc = 0' 'usb = 0'
}

# type_words prints what the type of guest adds to the kernel's command line. A PVH guest
# whose memory is laid out at random dies of triple faults at boot more often.
type_words() { [[ $type = pv ]] || printf 'nokaslr '; }

# processor prints QEMU's. A hardware-virtualised guest runs on an emulated AMD SVM.
processor() {
	case $type in
	pv) echo qemu64 ;;
	*) echo qemu64,+svm,+npt ;;
	esac
}

# boot_command DIR DISK MEMORY... prints, one word a line, the command that boots the
# dom0 ramdisk DIR/dom0.cpio. Xen and dom0 write to DIR/xen.log; the guest's console is
# QEMU's stdin and stdout. MEMORY are QEMU's options for it.
#
# The processor is qemu64: with AVX or SMAP, which -cpu max has, this emulation
# corrupts a PV guest's vector registers or kills dom0. Hardware acceleration is not
# used: where /dev/kvm exists in a virtual machine it often does not work.
boot_command() {
	local dir=$1 disk=$2
	shift 2
	machine_command "$dir" "$disk" "$@"
	printf '%s\n' \
		-kernel "$cache/userland/xen.elf" \
		-append "console=com1 com1=115200,8n1 dom0_mem=1G,max:1G dom0_max_vcpus=2 bootscrub=0 spec-ctrl=no" \
		-initrd "$cache/kernel/$dom0_kernel/vmlinux console=hvc0 earlyprintk=xen quiet panic=-1 mitigations=off cryptomgr.notests,$dir/dom0.cpio"
}

machine_command() {
	local dir=$1 disk=$2
	shift 2
	printf '%s\n' qemu-system-x86_64
	if [[ -n $icount ]]; then
		printf '%s\n' -accel tcg,thread=single -icount shift=0,sleep=off
	else
		printf '%s\n' -accel tcg,thread=multi
	fi
	printf '%s\n' -cpu "$(processor)" -smp 2 -m "$memory" \
		-display none -nodefaults -no-reboot -nic none -parallel none -monitor none \
		-qmp "unix:$dir/qmp,server=on,wait=off" \
		-drive "file=$disk,format=raw,if=ide,cache=unsafe" \
		-serial "file:$dir/xen.log" -serial stdio "$@"
	[[ ${#tunnel[@]} -eq 0 ]] || tunnel_devices
}

# memory_file PATH SHARE prints the options for memory that lies in a file.
memory_file() {
	printf '%s\n' -object "memory-backend-file,id=memory,size=$memory,mem-path=$1,share=$2" \
		-machine pc,memory-backend=memory
}
