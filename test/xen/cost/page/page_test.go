package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/xen/cost"
)

// measured returns a section in which a row costs so many instructions per datagram.
func measured(row string, with float64) section {
	return newSection("6.1", []cost.Result{{
		Kernel: "6.1.0-1-amd64", Row: row,
		Packets: map[cost.Traffic]*cost.Samples{cost.UDP: {With: []float64{with + 5, with}, Without: []float64{7000, 7010}}},
		Start:   &cost.Start{Instructions: []int64{700e6, 710e6}, Elapsed: []int64{2e9}, PeakKiB: 36 << 10, SteadyKiB: 20 << 10},
		Report:  &cost.Report{Packets: 100, BPF: 5000, Userspace: 90000},
	}})
}

// pageOf returns a page with sections, as it replaces old.
func pageOf(t *testing.T, old string, sections ...section) string {
	t.Helper()
	var page strings.Builder
	writePage(&page, old, sections, parsePage(old))
	return page.String()
}

func TestPageIsReadBack(t *testing.T) {
	page := pageOf(t, "", measured("watch fentry", 7700))
	got := parsePage(page)["6.1"]
	for at, want := range map[place]float64{
		{nothing, columnUDP}:              7000,
		{nothing, columnUDPMedian}:        7005,
		{"watch fentry", columnUDP}:       700,
		{"watch fentry", columnReady}:     700,
		{"watch fentry", columnElapsed}:   2000,
		{"watch fentry", columnPeak}:      36,
		{"watch fentry", columnSteady}:    20,
		{"watch fentry", columnBPF}:       5000,
		{"watch fentry", columnUserspace}: 90000,
	} {
		if got[at] != want {
			t.Errorf("%v: read back %v, want %v", at, got[at], want)
		}
	}
}

func TestPageShowsTheChangeAndKeepsOtherKernels(t *testing.T) {
	old := pageOf(t, "", measured("watch fentry", 7700))
	other := measured("watch fentry", 7600)
	other.kernel = "5.10"
	old = pageOf(t, old, other)
	page := pageOf(t, old, measured("watch fentry", 7350))
	if want := "| watch fentry | +350 (-50.0 %) |"; !strings.Contains(page, want) {
		t.Errorf("no %q in\n%s", want, page)
	}
	if got := parsePage(page)["5.10"][place{"watch fentry", columnUDP}]; got != 600 {
		t.Errorf("the kernel that was not measured has %v, want 600", got)
	}
}

func TestMissingRowsAreNoted(t *testing.T) {
	page := pageOf(t, "", newSection("5.10", []cost.Result{{Row: "empty fentry", Missing: "no BTF of the driver's module"}, {
		Row: "watch kprobe", Packets: map[cost.Traffic]*cost.Samples{cost.UDP: {With: []float64{2}, Without: []float64{1}}},
	}}))
	if want := `No row "empty fentry" on this kernel: no BTF of the driver's module.`; !strings.Contains(page, want) {
		t.Errorf("no %q in\n%s", want, page)
	}
}

func TestCheck(t *testing.T) {
	committed := parsePage(pageOf(t, "", measured("watch fentry", 7700)))["6.1"]
	for _, tt := range []struct {
		name   string
		row    string
		with   float64
		dearer bool
	}{
		{"the same", "watch fentry", 7700, false},
		{"cheaper", "watch fentry", 7100, false},
		{"within what is allowed", "watch fentry", 7725, false},
		{"dearer", "watch fentry", 7740, true},
		{"not on the page", "congestion", 9000, true},
		{"not compared", "watch tracepoint", 9000, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := measured(tt.row, tt.with).dearer(committed); (len(got) > 0) != tt.dearer {
				t.Errorf("reported %q, want a report: %v", got, tt.dearer)
			}
		})
	}
}

// What CI runs fails on a dearer row, and not once the page has been changed with it.
func TestCheckAgainstAFile(t *testing.T) {
	dir := t.TempDir()
	page, log := filepath.Join(dir, "cost.md"), filepath.Join(dir, "6.1.log")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(page, pageOf(t, "", measured("watch fentry", 7700)))
	write(log, "some noise\n"+`{"kernel":"6.1.0","row":"watch fentry","packets":{"udp":{"with":[8000],"without":[7000]}}}`+"\n")
	var out strings.Builder
	err := run(&out, []string{"6.1=" + log}, page, "", true)
	if want := "watch fentry, " + columnUDP + ": 1000 instructions, was 700"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
	if err := run(&out, []string{"6.1=" + log}, page, page, false); err != nil {
		t.Fatal(err)
	}
	if err := run(&out, []string{"6.1=" + log}, page, "", true); err != nil {
		t.Errorf("with the page changed: %v", err)
	}
}
