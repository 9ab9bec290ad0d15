package live

import "testing"

func TestNames(t *testing.T) {
	for from, want := range map[string]string{
		"eth0": "eth0", "\x1b[31m": `\x1b[31m`, `a\b`: `a\\b`, "漢字": "漢字", "e\u0301": `e\u0301`, "\u0301": `\u0301`,
		"👨\u200d👩": `👨\u200d👩`, "🇩🇪": `\U0001f1e9\U0001f1ea`, "ൎ": `\u0d4e`, "é": "é",
	} {
		if got := name(from); got != want {
			t.Errorf("name(%q) = %q, want %q", from, got, want)
		}
	}
}

func TestShortenedEndsKeepTheirPorts(t *testing.T) {
	const text = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535 > [2001:db8::9]:5001"
	for columns, want := range map[int]string{
		80: text,
		53: "[2001:db8:11~:6666]:65535 > [2001:db8::9]:5001",
		30: "[2001:~:65535 > [2001:~9]:5001",
	} {
		if got := shortenEnds(text, columns, "~"); got != want || width(got) > columns {
			t.Errorf("%d: %q", columns, got)
		}
	}
}
