package bpf

// XentraceObject returns the object of the tracer's programs, which must not be changed.
func XentraceObject() []byte { return _XentraceBytes }

// CongestionObject returns the object of the programs that measure congestion, which must not be
// changed.
func CongestionObject() []byte { return _CongestionBytes }
