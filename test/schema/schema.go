// Package schema validates JSON output against docs/schema.json.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"xentrace/docs"
)

// most is how many packets of one output are validated: a storm has a million alike.
const most = 5000

// compiled is the schema of each type of object, by the name of the type: an error of one
// schema is readable, that of a oneOf of all is not.
var compiled = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(docs.Schema))
	if err != nil {
		return nil, fmt.Errorf("docs/schema.json: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		return nil, fmt.Errorf("docs/schema.json: %w", err)
	}
	types := make(map[string]*jsonschema.Schema)
	definitions, _ := document.(map[string]any)["$defs"].(map[string]any)
	for name, definition := range definitions {
		properties, _ := definition.(map[string]any)["properties"].(map[string]any)
		kind, _ := properties["type"].(map[string]any)
		text, isType := kind["const"].(string)
		if !isType {
			continue
		}
		if types[text], err = compiler.Compile("schema.json#/$defs/" + name); err != nil {
			return nil, fmt.Errorf("docs/schema.json: %w", err)
		}
	}
	return types, nil
})

// Validate returns what is wrong with the first line that is not as the schema says.
func Validate(output []byte) error {
	types, err := compiled()
	if err != nil {
		return err
	}
	packets := 0
	for line := range bytes.Lines(output) {
		if bytes.HasPrefix(line, []byte(`{"type":"packet"`)) {
			if packets++; packets > most {
				continue
			}
		}
		var object struct{ Type string }
		if err := json.Unmarshal(line, &object); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		kind, known := types[object.Type]
		if !known {
			return fmt.Errorf("line %q: type %q is not in docs/schema.json", line, object.Type)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		if err := kind.Validate(value); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
	}
	return nil
}

// Check fails the test if a line is not as docs/schema.json says.
func Check[T string | []byte](t testing.TB, output T) {
	t.Helper()
	if err := Validate([]byte(output)); err != nil {
		t.Error(err)
	}
}
