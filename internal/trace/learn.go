package trace

import (
	"bytes"
	"context"
	"fmt"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"xentrace/bpf"
	"xentrace/internal/kernel"
	"xentrace/internal/learn"
)

// Learn finds where members lie in the running kernel's structures by experiment, see
// [learn.Find]; begun is called before it begins,
// once the privileges are known to do; its error ends it. Errors that wrap [ErrCannotRun] name what this
// machine lacks.
func Learn(ctx context.Context, begun func() error) (learn.Layout, error) {
	release, err := kernel.ReadRelease()
	if err != nil {
		return nil, err
	}
	if err := allowsTracing(release); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("%w: limit of locked memory: %w", ErrCannotRun, err)
	}
	reader, err := newCodeReader(kernel.NewTypes())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCannotRun, Explain(err))
	}
	defer reader.Close()
	if err := begun(); err != nil {
		return nil, err
	}
	layout, err := learn.Find(ctx, reader)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", ErrCannotRun, err)
	}
	return layout, err
}

// LearnedTypes returns a layout as BTF for the programs of the tracer, good for the kernel with
// this build id only.
func LearnedTypes(layout learn.Layout, buildID string) ([]byte, error) {
	object, err := btf.LoadSpecFromReader(bytes.NewReader(bpf.XentraceObject()))
	if err != nil {
		return nil, fmt.Errorf("types of the BPF programs: %w", err)
	}
	return layout.Types(object, kernel.LearnedMark(buildID))
}
