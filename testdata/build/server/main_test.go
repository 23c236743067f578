package main

import (
	"net/url"
	"strings"
	"testing"
)

func TestHello(t *testing.T) {
	var w strings.Builder
	hello(&w, url.Values{"name": {"you"}})
	if w.String() == "" {
		t.Error("no greeting")
	}
}
