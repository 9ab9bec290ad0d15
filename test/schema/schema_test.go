package schema

import (
	"strings"
	"testing"
)

// What is not in the schema is found: a key too many, one too few, a wrong type, an unknown
// word, an unknown object.
func TestDeviationsAreFound(t *testing.T) {
	const good = `{"type":"ec2rl","module":"xennetrocket","ifname":null,"verdict":"SUCCESS","right":true,"message":"so"}` + "\n"
	if err := Validate([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"key too many":   {`"right":true`, `"right":true,"wrong":false`},
		"key missing":    {`,"message":"so"`, ``},
		"wrong type":     {`"right":true`, `"right":"yes"`},
		"unknown word":   {`"SUCCESS"`, `"MAYBE"`},
		"empty text":     {`"so"`, `""`},
		"unknown object": {`"type":"ec2rl"`, `"type":"ec3rl"`},
		"not JSON":       {`{`, `[`},
	} {
		if err := Validate([]byte(good + strings.Replace(good, change[0], change[1], 1))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
