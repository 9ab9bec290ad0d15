# The driver before it learned to linearize (Linux 3.7 to 3.16): a packet over the
# limit goes straight to drop.
/if (unlikely(slots > MAX_XEN_SKB_FRAGS + 1)) {/,/^	}/{
	/if (skb_linearize(skb))/d
	s/^		\tgoto drop;/		goto drop;/
}
