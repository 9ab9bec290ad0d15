package check

import "testing"

// No interface has more findings than there is space for in metrics.
func TestInterfaceFindings(t *testing.T) {
	m := newGuest().read(t)
	for i := range m.Interfaces {
		if n := 1 + len(m.ofInterface(&m.Interfaces[i])); n != InterfaceFindings {
			t.Errorf("%s can have %d findings, want %d", m.Interfaces[i].Name, n, InterfaceFindings)
		}
	}
	if len(m.Interfaces) == 0 {
		t.Error("no interface")
	}
}
