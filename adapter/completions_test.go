package adapter

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-dap"
)

// completions returns the labels of what a text can be completed to, and checks
// that they take the place of its last word.
func (c *client) completions(text string) []string {
	c.t.Helper()
	var body dap.CompletionsResponseBody
	c.call("completions", dap.CompletionsArguments{Text: text, Column: len(text) + 1}, &body)
	word := text[strings.LastIndex(text, " ")+1:]
	labels := []string{}
	for _, item := range body.Targets {
		if item.Length != len(word) || item.Start != len(text)-len(word)+1 || item.Text != "" || !strings.HasPrefix(item.Label, word) {
			c.t.Errorf("%q: %+v does not take the place of %q", text, item, word)
		}
		labels = append(labels, item.Label)
	}
	return labels
}

func TestCompletions(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	loaded := c.patch("load", map[string]any{"path": s.module})
	active := c.patch("load", map[string]any{"path": s.more})
	c.patch("activate", map[string]any{"id": active.ID})
	dir := filepath.Dir(s.module) + "/"
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", []string{}},
		{"da", []string{"darn"}},
		{"x", []string{}},
		{"dlv ", []string{}},
		{"darn ", []string{"activate", "again", "compare", "deactivate", "help", "inspect", "list", "load", "unload"}},
		{"darn l", []string{"list", "load"}},
		{"darn activate ", []string{loaded.ID}},
		{"darn deactivate ", []string{active.ID}},
		{"darn compare ", []string{loaded.ID, active.ID}},
		{"darn unload ", []string{loaded.ID, active.ID}},
		{"darn list ", []string{}},
		{"darn activate " + loaded.ID + " ", []string{"at", "quiescent", "replace", "stop"}},
		{"darn activate " + loaded.ID + " at ", []string{}},
		{"darn activate " + loaded.ID + " at main.go:1 ", []string{"hit", "quiescent", "replace", "stop"}},
		{"darn activate " + loaded.ID + " quiescent r", []string{"replace"}},
		{"darn load " + dir + "d", []string{s.described, s.module}},
		{"darn inspect " + dir + "m", []string{s.more}},
		{"darn load " + strings.TrimSuffix(dir, "/"), []string{dir}},
		{"darn load /no/such/folder/", []string{}},
	} {
		got := c.completions(test.text)
		if strings.HasSuffix(test.text, "/shop") { // other folders may begin so
			got = slices.DeleteFunc(got, func(s string) bool { return s != dir })
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
	c.patch("deactivate", map[string]any{"id": active.ID})
	c.disconnect(false)
	mustAnswer(t, get)
}
