# The driver with faults on order: an IPv4 packet to a UDP or TCP port from 7017 on has
# the driver find, while it transmits this packet and no other, that
#
#	7017	there is no queue
#	7018	the device is broken
#	7019	there is no memory to linearize the packet
#	7020	the backend is not trusted, and there is no memory for a bounce copy
#	7021	there is no memory for a bounce copy, should the packet want one
#	7022	there is no carrier
#	7023	scatter-gather is off
#	7024	TCP segmentation is off
#
# Every other packet is treated as by Debian's driver. The packet's own tests are asked in
# the driver's own code; only the answers are made. The interrupts that come meanwhile must
# not see them: they take the carrier and an unbroken device for granted.
/^	BUG_ON(!netif_carrier_ok(queue->info->netdev));/d
s/^	if (unlikely(queue->info->broken))/	if (false)/
s/netif_carrier_ok(queue->info->netdev) && work_queued/work_queued/
/^static netdev_tx_t xennet_start_xmit/i\
struct lab_order {\
	unsigned int fault;\
	unsigned int queues;\
	netdev_features_t features;\
	bool broken, bounce, no_carrier;\
};\
\
static unsigned int lab_port(const struct sk_buff *skb)\
{\
	const struct iphdr *ip = (const void *)(skb->data + ETH_HLEN);\
	unsigned int length;\
\
	if (skb->protocol != htons(ETH_P_IP) || skb_headlen(skb) < ETH_HLEN + sizeof(*ip))\
		return 0;\
	length = ip->ihl * 4;\
	if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP)\
		return 0;\
	if (skb_headlen(skb) < ETH_HLEN + length + 4)\
		return 0;\
	return ntohs(*(const __be16 *)((const u8 *)ip + length + 2));\
}\
\
static void lab_begin(struct netfront_info *np, const struct sk_buff *skb, struct lab_order *order)\
{\
	struct net_device *dev = np->netdev;\
\
	order->fault = lab_port(skb);\
	order->queues = dev->real_num_tx_queues;\
	order->features = dev->features;\
	order->broken = np->broken;\
	order->bounce = np->bounce;\
	order->no_carrier = false;\
	switch (order->fault) {\
	case 7017:\
		dev->real_num_tx_queues = 0;\
		break;\
	case 7018:\
		np->broken = true;\
		break;\
	case 7020:\
		np->bounce = true;\
		break;\
	case 7022:\
		order->no_carrier = !test_and_set_bit(__LINK_STATE_NOCARRIER, &dev->state);\
		break;\
	case 7023:\
		dev->features &= ~NETIF_F_SG;\
		break;\
	case 7024:\
		dev->features &= ~NETIF_F_ALL_TSO;\
		break;\
	}\
}\
\
static void lab_end(struct netfront_info *np, const struct lab_order *order)\
{\
	struct net_device *dev = np->netdev;\
\
	if (order->fault == 7017)\
		dev->real_num_tx_queues = order->queues;\
	if (order->fault == 7018)\
		np->broken = order->broken;\
	if (order->fault == 7020)\
		np->bounce = order->bounce;\
	if (order->no_carrier)\
		clear_bit(__LINK_STATE_NOCARRIER, &dev->state);\
	if (order->fault == 7023 || order->fault == 7024)\
		dev->features = order->features;\
}\

/^static netdev_tx_t xennet_start_xmit/,/^}/{
	s/^	struct sk_buff \*nskb;/&\
	struct lab_order order;\
\
	lab_begin(np, skb, \&order);\
	num_queues = dev->real_num_tx_queues;/
	s/if (skb_linearize(skb))/if (order.fault == 7019 || skb_linearize(skb))/
	s/nskb = bounce_skb(skb);/nskb = order.fault == 7020 || order.fault == 7021 ? NULL : bounce_skb(skb);/
	s/^	return NETDEV_TX_OK;/	lab_end(np, \&order);\
&/
}
