// Package docs holds the JSON schema of the output, for tests that validate against it.
package docs

import _ "embed"

// Schema is schema.json, a JSON Schema (2020-12) of every object that -o json writes.
//
//go:embed schema.json
var Schema []byte
