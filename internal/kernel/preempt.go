package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// A PerCPUField is a member of a variable that the kernel has once for each CPU.
type PerCPUField struct {
	Variable btf.TypeID // of the variable, in the types of the kernel proper
	Offset   uint32     // of the member in it, in bytes
}

// PreemptCount returns where preempt_count is kept, which tells process context
// from interrupts: __preempt_count, or from 6.2 to 6.14 a member of pcpu_hot. The
// error wraps [ErrNoTypes], or [ErrNoSuchType] on kernels that keep it elsewhere
// (arm64 in the task) and those whose BTF lacks variables, as Debian's 5.10.
func (t *Types) PreemptCount() (PerCPUField, error) {
	spec, err := t.Spec("")
	if err != nil {
		return PerCPUField{}, err
	}
	var variable *btf.Var
	for _, name := range []string{"__preempt_count", "pcpu_hot"} {
		if err := spec.TypeByName(name, &variable); errors.Is(err, btf.ErrNotFound) {
			continue
		} else if err != nil {
			return PerCPUField{}, fmt.Errorf("variable %s: %w", name, err)
		}
		id, err := spec.TypeID(variable)
		if err != nil {
			return PerCPUField{}, fmt.Errorf("variable %s: %w", name, err)
		}
		if name == "__preempt_count" {
			return PerCPUField{Variable: id}, nil
		}
		field, err := t.Field("", name, "preempt_count")
		return PerCPUField{Variable: id, Offset: field.Offset}, err
	}
	return PerCPUField{}, fmt.Errorf("preempt_count: %w", ErrNoSuchType)
}
