package adapter

import (
	"fmt"
	"strings"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher/finding"
)

// The ids of Darn's errors, apart from Delve's.
const (
	errorRefused = 6000 // with findings
	errorFailed  = 6001
)

// respond answers a request with success.
func (p *proxy) respond(h *header, body any) {
	p.pass(marshal(struct {
		dap.Response
		Body any `json:"body"`
	}{response(h, ""), body}))
}

// refuse answers a request with an error. The findings of a refusal go along.
func (p *proxy) refuse(h *header, err error) {
	type body struct {
		Error    dap.ErrorMessage  `json:"error"`
		Findings []finding.Finding `json:"findings,omitempty"`
	}
	message, b := err.Error(), body{Error: dap.ErrorMessage{Id: errorFailed, Format: err.Error()}}
	if r := finding.As(err); r != nil && len(r.Findings) > 0 {
		first := r.Findings[0]
		message = fmt.Sprintf("%s [%s]", first.Message, first.Code)
		b.Error.Id, b.Findings = errorRefused, r.Findings
		b.Error.Format = explain(r)
	}
	p.pass(marshal(struct {
		dap.Response
		Body body `json:"body"`
	}{response(h, message), b}))
}

// explain puts a refusal into words for a person.
func explain(r *finding.Refusal) string {
	var lines []string
	for _, f := range r.Findings {
		line := fmt.Sprintf("%s [%s]", f.Message, f.Code)
		if f.Function != "" {
			line = f.Function + ": " + line
		}
		if f.Source != "" {
			line = f.Source + ": " + line
		}
		if f.Advice != "" {
			line += "; " + f.Advice
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// response begins the answer to h; without a message it is a success.
func response(h *header, message string) dap.Response {
	return dap.Response{
		ProtocolMessage: dap.ProtocolMessage{Type: "response"},
		RequestSeq:      h.Seq,
		Command:         h.Command,
		Success:         message == "",
		Message:         message,
	}
}

// event sends an event of Darn's.
func (p *proxy) event(name string, body any) {
	p.pass(marshal(struct {
		dap.Event
		Body any `json:"body"`
	}{dap.Event{ProtocolMessage: dap.ProtocolMessage{Type: "event"}, Event: name}, body}))
}
