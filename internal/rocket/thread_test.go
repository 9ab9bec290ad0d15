package rocket

import "testing"

func TestThreadsDoNotAddUp(t *testing.T) {
	before, err := threads()
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 100
	for range rounds {
		made, err := newThread()
		if err != nil {
			t.Fatal(err)
		}
		if err := made.run(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		made.close()
	}
	after, err := threads()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d threads before, %d after", len(before), len(after))
	if len(after) > len(before)+rounds/2 {
		t.Errorf("%d threads before, %d after %d were made and closed", len(before), len(after), rounds)
	}
}
