package clients

import (
	"os"
	"strings"
	"testing"
)

// documented returns the first block of code in a language that docs/clients.md
// has under a heading: what users are told to use is what the tests use.
func documented(t *testing.T, heading, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, block, found := strings.Cut(section, "\n```"+language+"\n")
	block, _, closed := strings.Cut(block, "\n```\n")
	if !ok || !found || !closed {
		t.Fatalf("docs/clients.md has no %s under %s", language, heading)
	}
	return block + "\n"
}
