package event

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
)

// ReadJSON returns nil for what is not JSON, or more than one value. Numbers stay the text that they are, a json.Number: one that float64 cannot
// hold spoils only itself.
func ReadJSON(data []byte) any {
	if len(data) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil
	}
	return value
}

// Field returns the string, number or bool at the path of what ReadJSON returned, and nil for anything else. Elements of arrays are named by
// their index.
func Field(value any, path []string) any {
	for _, name := range path {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case []any:
			i, err := strconv.ParseUint(name, 10, 32)
			if err != nil || i >= uint64(len(v)) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	switch value.(type) {
	case string, json.Number, bool:
		return value
	}
	return nil
}
