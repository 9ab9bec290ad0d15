//go:build xenlab

package guest

import (
	"testing"

	"xentrace/internal/kernel"
	driver "xentrace/internal/netfront"
	"xentrace/internal/trace"
)

// What the driver's code shows is what its types say, where it has any; where it has none,
// as on 5.10, the code shows it.
func TestFlagsInCode(t *testing.T) {
	types := kernel.NewTypes()
	symbols, err := kernel.ReadSymbols(driver.LinearizeSymbols())
	if err != nil {
		t.Fatal(err)
	}
	reader, err := trace.NewCodeReader(types)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	private, err := types.NetdevPrivOffset()
	if err != nil {
		t.Fatal(err)
	}
	got, err := driver.FlagsInCode(t.Context(), symbols, reader, private)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("broken at %#x, bounce at %#x, the private area at %#x", got.Broken, got.Bounce, private)
	if !driverTypes() {
		return
	}
	module, err := driver.FindTyped(types)
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]uint32{"broken": got.Broken, "bounce": got.Bounce} {
		field, err := types.Field(module, "netfront_info", name)
		if err != nil || private+field.Offset != at {
			t.Errorf("%s at %#x by the types (error %v), %#x by the code", name, private+field.Offset, err, at)
		}
	}
}
