// Package dep is another module.
package dep

import "strings"

// Normalize makes words comparable.
func Normalize(s string) string {
	fields := strings.Fields(s)
	for i, f := range fields {
		fields[i] = strings.ToLower(f)
	}
	return strings.Join(fields, " ")
}
