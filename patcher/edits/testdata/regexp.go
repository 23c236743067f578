package main

import (
	"regexp"
	"strings"
	"text/template"
)

//go:noinline
func freshCode() string {
	word := regexp.MustCompile(`(?i)\b(?P<first>[a-z])(\w*)\b`)
	s := word.ReplaceAllStringFunc("hello big world", func(w string) string { return strings.ToUpper(w[:1]) + w[1:] })
	var b strings.Builder
	t := template.Must(template.New("page").Funcs(template.FuncMap{"twice": func(s string) string { return s + s }}).Parse(
		`{{range $i, $p := .Points}}{{if $i}}, {{end}}{{$p}} {{$p.Unused | twice | len}}{{end}} of {{.Title | printf "%q"}}`))
	err := t.Execute(&b, struct {
		Points []point
		Title  string
	}{[]point{{1, 2}, {3, 4}}, s})
	if err != nil {
		return err.Error()
	}
	return b.String()
}
