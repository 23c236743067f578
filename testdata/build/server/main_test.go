package main

import (
	"net/http/httptest"
	"testing"
)

func TestHello(t *testing.T) {
	w := httptest.NewRecorder()
	hello(w, httptest.NewRequest("GET", "/hello?name=you", nil))
	if w.Body.String() == "" {
		t.Error("no greeting")
	}
}
