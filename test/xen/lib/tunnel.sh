# shellcheck shell=bash
# The tunnel: TCP ports of the guest that are ports of this machine's loopback address. It is
# QEMU's user network, restricted: nothing goes out through it. tunnel has HERE:GUEST for each
# port. A saved machine has none, so a run with a tunnel is --fresh.
tunnel=()
tunnel_end=10.44.0.254 # the sender of what comes through it, in the guest's network

tunnel_devices() {
	local user=user,id=tunnel,restrict=on,ipv6=off,net=10.44.0.0/24,host=$tunnel_end,dns=10.44.0.253,dhcpstart=10.44.0.200 port
	for port in "${tunnel[@]}"; do
		user+=",hostfwd=tcp:127.0.0.1:${port%:*}-10.44.0.2:${port#*:}"
	done
	printf '%s\n' -netdev "$user" -device virtio-net-pci,netdev=tunnel,disable-legacy=on,iommu_platform=on,mac=00:16:3e:00:00:fe
}

# tunnel_files TREE adds dom0's part of it.
tunnel_files() {
	install_modules "$1" "$dom0_kernel" "${dom0_modules[@]}" virtio_pci virtio_net
	install "$lab/init/tunnel" "$1/guest/tunnel"
	echo "/guest/tunnel $tunnel_end" >"$1/guest/tunnel.conf"
}

# free_port prints one of loopback that nobody listens on.
free_port() {
	local port
	while port=$((20000 + RANDOM % 30000)); do
		(: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}
