// Package bpf holds the BPF programs of xentrace: the C sources, the objects
// compiled from them for each architecture, and the Go types that bpf2go writes
// from them. One object serves every kernel from 5.10 on (CO-RE).
package bpf

//go:generate go tool bpf2go -tags linux -target amd64,arm64 -go-package bpf -type event_kind -type packet_event -type interface_event -type elsewhere_event -type elsewhere_head -type verdict -type cause -type socket_identity -type sender -type holder -type wanted -type connection -type questions -type tcp_state -type call_stack -type rate_entry -type flow Xentrace xentrace.bpf.c -- -g -O2 -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter
//go:generate go tool bpf2go -tags linux -target amd64,arm64 -go-package bpf -type ring_indices Congestion congestion.bpf.c -- -g -O2 -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter
