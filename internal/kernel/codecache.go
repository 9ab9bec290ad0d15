package kernel

import (
	"context"
	"fmt"
)

// A codeCache reads code in pieces, each once.
type codeCache struct {
	reader CodeReader
	chunks map[uint64][]byte // by address; of chunkBytes, or nil where it cannot be read
}

const chunkBytes = 512

// at returns up to n bytes of the part from address on. An error wraps errWalk
// unless the context has ended.
func (c *codeCache) at(ctx context.Context, p *part, address uint64, n int) ([]byte, error) {
	n = int(min(uint64(n), p.end-address))
	code := make([]byte, 0, n)
	for len(code) < n {
		at := address + uint64(len(code))
		chunk, err := c.chunk(ctx, at&^(chunkBytes-1))
		if err != nil {
			if len(code) > 0 {
				return code, nil // an instruction may end before the end of what is mapped
			}
			return nil, err
		}
		rest := chunk[at&(chunkBytes-1):]
		code = append(code, rest[:min(len(rest), n-len(code))]...)
	}
	return code, nil
}

func (c *codeCache) chunk(ctx context.Context, address uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	chunk, known := c.chunks[address]
	if !known {
		chunk = make([]byte, chunkBytes)
		if err := c.reader.ReadCode(ctx, address, chunk); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			c.chunks[address] = nil
			return nil, fmt.Errorf("%w: code at %#x: %w", errWalk, address, err)
		}
		c.chunks[address] = chunk
	}
	if chunk == nil {
		return nil, fmt.Errorf("%w: code at %#x cannot be read", errWalk, address)
	}
	return chunk, nil
}

// padded reports whether everything from address to the end of the part is
// padding: breakpoints, or zeros where the memory of a module ends.
func (c *codeCache) padded(ctx context.Context, p *part, address uint64) bool {
	code, err := c.at(ctx, p, address, int(p.end-address))
	if err != nil || uint64(len(code)) != p.end-address {
		return false
	}
	for _, b := range code {
		if b != 0xcc && b != 0 {
			return false
		}
	}
	return true
}
