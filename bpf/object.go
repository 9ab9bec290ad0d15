package bpf

// SKBSpan is the most bytes of an sk_buff that programs copy for each packet, SKB_SPAN.
const SKBSpan = 128

// XentraceObject returns the object of the tracer's programs, which must not be changed.
func XentraceObject() []byte { return _XentraceBytes }

// CongestionObject returns the object of the programs that measure congestion, which must not be
// changed.
func CongestionObject() []byte { return _CongestionBytes }
