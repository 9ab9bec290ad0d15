package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Every string of trouble in xen-netfront.ko of 5.10, 6.1, 6.12 and 7.2, and of 3.13, in the form
// that the log has it, is known by the right name.
func TestEveryMessageOfTheDriver(t *testing.T) {
	for text, want := range map[string]string{
		"net eth0: Disabled for further use":                                "disabled",
		"net eth0: Illegal number of responses 260":                         "misbehaviour",
		"net eth0: Response has incorrect id (300)":                         "misbehaviour",
		"net eth0: Response for inactive request":                           "misbehaviour",
		"net eth0: Grant still in use by backend domain":                    "misbehaviour",
		"xennet_tx_buf_gc: warning -- grant still in use by backend domain": "misbehaviour",
		"net eth0: RX producer index going backwards":                       "misbehaviour",
		"xen_netfront: can't alloc tx grant refs":                           noGrants,
		"xen_netfront: can't alloc rx grant refs":                           noGrants,
		"vif vif-0: no queues":                                              "no_queues",
		"vif vif-0: only created 1 queues":                                  "fewer_queues",
		"vif vif-0: can't allocate page pool":                               "connect_failed",
		"vif vif-0: 12 allocating tx ring page":                             "connect_failed",
		"vif vif-0: 12 allocating rx ring page":                             "connect_failed",
		"vif vif-0: 12 creating netdev":                                     "connect_failed",
		"vif vif-0: 12 creating queues":                                     "connect_failed",
		"vif vif-0: 2 parsing device/vif/0/mac":                             "connect_failed",
		"vif vif-0: 28 starting transaction":                                "connect_failed",
		"vif vif-0: 28 completing transaction":                              "connect_failed",
		"vif vif-0: 28 writing tx-ring-ref":                                 "connect_failed",
		"vif vif-0: 28 writing request-rx-copy":                             "connect_failed",
		"vif vif-0: 28 writing feature-ipv6-csum-offload":                   "connect_failed",
		"vif vif-0: 12 out of memory while writing ring references":         "connect_failed",
		"vif vif-0 eth0: xdp_rxq_info_reg failed":                           "connect_failed",
		"vif vif-0 eth0: xdp_rxq_info_reg_mem_model failed":                 "connect_failed",
		"xen_netfront: xennet_connect: register_netdev err=-17":             "not_registered",
		"net eth0: backend does not support copying receive path":           "no_rx_copy",
		"xennet: skb->len = 70000, too big for wire format":                 "too_big",
		"misaligned skb allocated":                                          "misaligned",
		"net eth0: rx->offset: 4090, size: 100":                             rxResponses,
		"net eth0: Need more slots":                                         rxResponses,
		"net eth0: Too many slots":                                          rxResponses,
		"net eth0: Bad rx response id 7.":                                   rxResponses,
		"net eth0: Missing extra info":                                      rxExtraInfo,
		"net eth0: Invalid extra type: 9":                                   rxExtraInfo,
		"xen_netfront: GSO size must not be zero":                           rxGSO,
		"xen_netfront: Bad GSO type 9":                                      rxGSO,
		"xen_netfront: Error writing xdp-headroom":                          "xdp_failed",
		"Driver BUG: missing reserved tailroom":                             "xdp_failed",
		"vif vif-0 eth0: XDP requires MTU less than 3520":                   "xdp_refused",
		"vif vif-0 eth0: Reducing MTU because no SG offload":                "mtu_reduced",
		"vif vif-0: bouncing transmitted data to zeroed pages":              "copies",
		"xennet: skb rides the rocket: 19 slots, 3000 bytes":                rocket,
		"xennet: skb rides the rocket: 19 frags":                            rocket,
		"xen_netfront: Initialising Xen virtual ethernet driver":            "",
		"xen_netfront: backend supports XDP headroom":                       "",
		"vif vif-0 eth0: renamed from enX0":                                 "",
	} {
		log := parseLog(LogRecords{All: []string{"4,0,1,-;" + ofDevice(text)}}, logDevices{"eth0": true})
		var names []string
		for _, e := range log.Entries {
			names = append(names, e.Message)
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestDeviceOfAMessage(t *testing.T) {
	for text, want := range map[string]string{
		"vif vif-0 eth0: Reducing MTU": "eth0", "net eth0: Too many slots": "eth0", "vif vif-3: no queues": "vif-3",
		"xen_netfront: can't alloc": "", "net_ratelimit: 5 callbacks": "", "net one two three: x": "", "": "",
	} {
		if got := deviceOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// A log full of other interfaces keeps the newest.
func TestLogIsBounded(t *testing.T) {
	var records LogRecords
	for n := range 1000 {
		records.All = append(records.All, "1,0,1,-;"+ofDevice(fmt.Sprintf("net eth%d: Disabled for further use", n)))
	}
	log := parseLog(records, logDevices{"net n2": true})
	last := LogEntry{"disabled", "eth999", 2, 1, 1000}
	if len(log.Entries) != maxEntries || !slices.Contains(log.Entries, last) || log.Counts["disabled"] != 1000 {
		t.Errorf("%d entries, %d messages", len(log.Entries), log.Counts["disabled"])
	}
}
