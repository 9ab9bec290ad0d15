package kernel

// typeNames are the kernel's types, functions and variables that may be asked for.
func typeNames() []string {
	return []string{
		// The BPF programs are relocated by these.
		"cgroup", "css_set", "dst_entry", "fdtable", "file", "files_struct", "hlist_head", "hlist_node",
		"inet_connection_sock", "inode", "kernfs_node", "napi_struct", "net", "net_device", "net_device_ops",
		"netdev_queue", "netdev_queue_state_t", "netdev_state_t", "nf_conn", "nf_conntrack_tuple_hash", "nsproxy",
		"pt_regs", "sk_buff", "skb_shared_info", "sock", "sock_cgroup_data", "socket", "super_block", "task_struct",
		"tcp_sock", "timespec64", "user_pt_regs",
		// They attach to these, and call bpf_rdonly_cast.
		"__dev_kfree_skb_any", "bpf_iter_task_file", "bpf_rdonly_cast", "btf_trace_net_dev_start_xmit", "dev_kfree_skb_any_reason",
		"inet_csk_accept", "netif_tx_wake_queue", "notify_remote_via_irq", "xennet_start_xmit", "xennet_tx_buf_gc",
		// Offsets and numbers are read from these, and what the kernel counts.
		"__preempt_count", "bpf_link_info", "bpf_prog_info", "btf_trace_kfree_skb", "mac80211_drop_reason",
		"netfront_info", "netfront_queue", "ovs_drop_reason", "pcpu_hot", "qdisc_drop_reason", "skb_drop_reason",
		"skb_drop_reason_subsys", "skb_free_reason", "xen_netif_tx_front_ring", "xen_netif_tx_request", "xen_netif_tx_sring",
	}
}

// Modules whose types may be asked for: the driver's, and the one that nf_conn is in where it is
// not built in.
const (
	driverModule    = "xen_netfront"
	conntrackModule = "nf_conntrack"
)
