package expression

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"xentrace/internal/event"
	"xentrace/test/need"
)

// machine runs a program as tcpdump -ddd writes it, its instructions separated by commas.
func machine(t testing.TB, program string) *bpf.VM {
	t.Helper()
	var code []bpf.Instruction
	for line := range strings.SplitSeq(program, ",") {
		var raw bpf.RawInstruction
		if _, err := fmt.Sscan(line, &raw.Op, &raw.Jt, &raw.Jf, &raw.K); err != nil {
			t.Fatalf("instruction %q: %v", line, err)
		}
		instruction := raw.Disassemble()
		if _, negates := instruction.(bpf.NegateA); negates {
			instruction = bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: 1<<32 - 1} // the same; the machine has no negation
		}
		code = append(code, instruction)
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return vm
}

// agree compares what an expression makes of whole frames with what tcpdump's program does.
func agree(t testing.TB, text, program string, frames []frame) (passed int) {
	t.Helper()
	e, err := Compile(text)
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return 0
	}
	vm := machine(t, program)
	for _, f := range frames {
		n, err := vm.Run(f.data)
		if err != nil {
			t.Fatal(err)
		}
		got := e.Match(&event.Packet{Header: f.data, Len: len(f.data)})
		if got != (n > 0) {
			t.Errorf("%q passes %q: %t; tcpdump: %t", text, f.name, got, n > 0)
		}
		if got {
			passed++
		}
	}
	return passed
}

// Every expression of testdata matches the frames that tcpdump's program for it does.
func TestLikeTcpdump(t *testing.T) {
	programs, err := os.ReadFile("testdata/programs")
	if err != nil {
		t.Fatal(err)
	}
	frames := corpus(t)
	expressions, telling := 0, 0
	for line := range strings.Lines(string(programs)) {
		text, program, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		expressions++
		if passed := agree(t, text, program, frames); passed > 0 && passed < len(frames) {
			telling++
		}
	}
	t.Logf("%d expressions, %d frames; %d expressions pass some and not others", expressions, len(frames), telling)
	if expressions < 400 || telling < 370 {
		t.Errorf("%d expressions, of which %d pass some frames and not others; want 400 and 370", expressions, telling)
	}
}

// A header of 96 bytes is enough for what is in it: a frame cut off there matches as the
// whole one does.
func TestCutHeadersMatchAsWholeOnes(t *testing.T) {
	programs, err := os.ReadFile("testdata/programs")
	if err != nil {
		t.Fatal(err)
	}
	const snap = 96
	for line := range strings.Lines(string(programs)) {
		text, _, _ := strings.Cut(line, "\t")
		if strings.Contains(text, "[len") || strings.Contains(text, "[ip[3]") {
			continue // a byte behind the headers
		}
		e, err := Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range corpus(t)[:60] {
			whole, cut := event.Packet{Header: f.data, Len: len(f.data)}, event.Packet{Header: f.data[:min(snap, len(f.data))], Len: len(f.data)}
			if e.Match(&whole) != e.Match(&cut) {
				t.Errorf("%q passes %q: %t, its first %d bytes: %t", text, f.name, e.Match(&whole), snap, e.Match(&cut))
			}
		}
	}
}

// compiled is what tcpdump makes of an expression; false if it refuses it.
func compiled(text string) (string, bool) {
	out, err := exec.Command("tcpdump", "-ddd", "-y", "EN10MB", "-s", "262144", "--", text).CombinedOutput()
	if err != nil {
		return "6 0 0 0", strings.Contains(string(out), "rejects all packets")
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for len(lines) > 0 && strings.Count(lines[0], " ") != 3 {
		lines = lines[1:] // a warning, or the count
	}
	return strings.Join(lines, ","), true
}

// Expressions made at random match what tcpdump says.
func TestLikeTcpdumpAtRandom(t *testing.T) {
	need.Tool(t, "tcpdump")
	frames := corpus(t)
	random := rand.New(rand.NewPCG(7, 11))
	for range rounds(t, 300) {
		text := generated(random, 3)
		program, ok := compiled(text)
		if !ok {
			t.Errorf("tcpdump refuses %q", text)
			continue
		}
		agree(t, text, program, frames)
	}
}

// Of words in any order, and of expressions with some of them replaced, what is accepted tcpdump accepts too, and matches the same.
func TestWhatIsAcceptedTcpdumpAccepts(t *testing.T) {
	need.Tool(t, "tcpdump")
	words := strings.Fields(`and or not ! && || ( ) ( ) tcp udp ip ip6 arp icmp ether src dst host net port portrange proto mask / - : [ ]
		vlan len less greater broadcast multicast 10.0.0.1 10.0 10.0.0.0/8 fd00::1 fd00::/8 00:16:3e:01:02:03 80 443 6 17 0 1-2000 \tcp \ip
		= != > < & | + * % ^ << tcp[13] ip[8] ip[2:2] tcp-syn icmptype 0x800 255.0.0.0 sctp igmp`)
	all, err := os.ReadFile("testdata/expressions")
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Split(strings.TrimSpace(string(all)), "\n")
	frames := corpus(t)
	random := rand.New(rand.NewPCG(3, 5))
	accepted := 0
	for accepted < rounds(t, 200) {
		soup := strings.Fields(known[random.IntN(len(known))])
		if random.IntN(3) == 0 {
			soup = make([]string, 1+random.IntN(7))
		}
		for i := range soup {
			if soup[i] == "" || random.IntN(4) == 0 {
				soup[i] = words[random.IntN(len(words))]
			}
		}
		text := strings.Join(soup, " ")
		if _, err := Compile(text); err != nil {
			continue
		}
		accepted++
		if program, ok := compiled(text); !ok {
			t.Errorf("%q is accepted; tcpdump refuses it", text)
		} else {
			agree(t, text, program, frames)
		}
	}
}

// rounds is how often to try; XENTRACE_ROUNDS multiplies it.
func rounds(t *testing.T, n int) int {
	t.Helper()
	if times, err := strconv.Atoi(os.Getenv("XENTRACE_ROUNDS")); err == nil {
		return n * times
	}
	return n
}

// generated is an expression that both accept.
func generated(r *rand.Rand, depth int) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	if depth > 0 && r.IntN(3) > 0 {
		left, right := generated(r, depth-1), generated(r, depth-1)
		return pick("", "", "not ", "!") + pick("(", "( ") + left + ")" + pick(" and ", " or ", "&&", "||") + pick("", "not ") + pick("(", "(") + right + " )"
	}
	direction := pick("", "", "src ", "dst ", "src or dst ", "src and dst ")
	host, port := pick("10.0.0.1", "10.0.0.9", "fd00::1", "192.168.1.7", "172.16.5.4", "2001:db8:1:2::7"), pick("80", "443", "53", "22", "40000", "5353")
	switch r.IntN(9) {
	case 0:
		return pick("tcp", "udp", "icmp", "icmp6", "ip", "ip6", "arp", "sctp", "igmp", "esp")
	case 1:
		return direction + "host " + host + pick("", " or "+pick("10.0.0.1", "fd00::9"), " and not 10.0.0.9")
	case 2:
		return pick("", "tcp ", "udp ") + direction + "port " + port + pick("", "", " or "+pick("80", "53"), " and "+pick("443", "53"))
	case 3:
		return pick("", "tcp ", "udp ") + direction + "portrange " + pick("1-1023", "50-443", "1024-65535", "80-80")
	case 4:
		return direction + "net " + pick("10.0.0.0/8", "fd00::/8", "192.168.0.0/16", "10.0.0.0/29", "172.16", "0.0.0.0/1")
	case 5:
		return pick("ip[8]", "ip[2:2]", "tcp[13]", "tcp[2:2]", "udp[4:2]", "len", "ip6[6]", "icmp[0]", "ether[12:2]") +
			pick(" & 3", " - 1", " + 5", " / 3", " * 7", " % 9", "", " << 2", " | 8") + pick(" = ", " != ", " > ", " < ", " >= ", " <= ") +
			pick("0", "2", "64", "len", "ip[3]", "1000")
	case 6:
		return pick("less ", "greater ") + pick("60", "64", "100", "1000")
	case 7:
		return pick("ip proto ", "ip6 proto ", "proto ") + pick("6", "17", "58", "47")
	}
	return pick("ether host 00:16:3e:01:02:03", "ether dst ff:ff:ff:ff:ff:ff", "ether multicast", "ip multicast", "vlan", "vlan 100")
}
