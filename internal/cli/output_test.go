package cli

import (
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher"
)

func TestReceiptNamesWhatWasReplaced(t *testing.T) {
	r := &patcher.Receipt{Operation: patcher.OpActivate, Replaced: []string{"1", "3"}, Looks: 2}
	if text := describeReceipt(r); !strings.Contains(text, ", no halt, 2 looks, 2 patches replaced (1, 3)") {
		t.Errorf("the receipt is %q", text)
	}
}
