# A driver that does not keep to the limit: no look at the number of slots, so that a
# packet of any number goes on the ring and the backend has to refuse it. With netback's
# own threshold of 20 it would disable the interface at the first: here it takes note of
# each. (test/xen/run --netback fatal_skb_slots=20 has it disabled.)
# netback: fatal_skb_slots=64
/if (unlikely(slots > MAX_XEN_SKB_FRAGS + 1)) {/,/^	}/d
