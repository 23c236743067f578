package module

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"debug/elf"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// testKey is a key pair that is the same in every run.
func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// signables are the files of a module of each kind.
func signables(t *testing.T) map[string][]byte {
	t.Helper()
	plain, err := os.ReadFile(compile(t, "int total(int n) { return n; }"))
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"of Go": encoded(t, sample()), "of a C compiler": plain}
}

func signed(t *testing.T, data []byte, n byte) []byte {
	t.Helper()
	data, err := Sign(data, testKey(n))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestASignedModuleIsTheSameModule(t *testing.T) {
	for kind, data := range signables(t) {
		before, err := Read(data)
		if err != nil {
			t.Fatal(err)
		}
		after, err := Read(signed(t, data, 1))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if after.ID() != before.ID() || before.Signer() != nil || !after.Signer().Equal(testKey(1).Public()) {
			t.Errorf("%s: ID %s, then %s; signed by %s, then %s", kind, before.ID(), after.ID(), Fingerprint(before.Signer()), Fingerprint(after.Signer()))
		}
	}
}

func TestASecondSignatureTakesThePlaceOfTheFirst(t *testing.T) {
	for kind, data := range signables(t) {
		if again := signed(t, signed(t, data, 1), 2); !bytes.Equal(again, signed(t, data, 2)) {
			t.Errorf("%s: the two differ", kind)
		}
	}
}

// TestAnyChangedByteSpoilsTheSignature changes one bit in each region of the file:
// each header, each section, what lies between, and each part of the signature.
func TestAnyChangedByteSpoilsTheSignature(t *testing.T) {
	for kind, plain := range signables(t) {
		data := signed(t, plain, 1)
		places := map[string]int{"ELF header": 8, "last byte before the signature": len(plain) - 1}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.Sections {
			if s.Type != elf.SHT_NOBITS && s.FileSize > 0 {
				places["section "+s.Name] = int(s.Offset + s.FileSize/2)
			}
		}
		end := len(plain)
		for _, part := range []struct {
			name string
			size int
		}{{"begin", len(signatureBegin)}, {"key", ed25519.PublicKeySize}, {"signature", ed25519.SignatureSize}, {"length", 8}, {"end", len(signatureEnd)}} {
			places["first byte of "+part.name] = end
			end += part.size
			places["last byte of "+part.name] = end - 1
		}
		for name, at := range places {
			data[at] ^= 4
			if _, err := Read(data); finding.CodeOf(err) != finding.SignatureInvalid {
				t.Errorf("%s: %s: %v", kind, name, err)
			}
			data[at] ^= 4
		}
		for name, other := range map[string][]byte{
			"a byte more before the signature": append(append(bytes.Clone(plain), 0), data[len(plain):]...),
			"a byte less before the signature": append(bytes.Clone(plain[:len(plain)-1]), data[len(plain):]...),
		} {
			if _, err := Read(other); finding.CodeOf(err) != finding.SignatureInvalid {
				t.Errorf("%s: %s: %v", kind, name, err)
			}
		}
	}
}

func TestOtherToolsReadASignedModule(t *testing.T) {
	for kind, plain := range signables(t) {
		path := filepath.Join(t.TempDir(), "m.so")
		show := func(data []byte) string {
			t.Helper()
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("readelf", "--all", "--wide", path).CombinedOutput()
			if err != nil || strings.Contains(string(out), "Warning") || strings.Contains(string(out), "Error") {
				t.Errorf("%s: %v\n%s", kind, err, out)
			}
			return string(out)
		}
		if before, after := show(plain), show(signed(t, plain, 1)); before != after {
			t.Errorf("%s: readelf sees another file:\n%s\n->\n%s", kind, before, after)
		}
	}
}

// TestOpenSSLVerifiesASignature: what is signed are the bytes before the
// signature, by the standard.
func TestOpenSSLVerifiesASignature(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not here")
	}
	plain := encoded(t, sample())
	data := signed(t, plain, 1)
	dir := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(testKey(1).Public())
	if err != nil {
		t.Fatal(err)
	}
	sig := data[len(plain)+len(signatureBegin)+ed25519.PublicKeySize:][:ed25519.SignatureSize]
	for name, content := range map[string][]byte{
		"plain": plain, "sig": sig, "key": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(openssl, "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-rawin", "-in", "plain", "-sigfile", "sig")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestWhatIsVerifiedIsWhatIsUsed: another process swaps the file, by renaming
// and by writing into it, as fast as it can. Whatever module comes of reading it
// is, whole, one that was signed.
func TestWhatIsVerifiedIsWhatIsUsed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.so")
	good := signed(t, encoded(t, sample()), 1)
	other := sample()
	copy(other.Segments[0].Data, []byte{0x0f, 0x0b})
	evil := encoded(t, other)
	ids := map[string]bool{}
	for _, data := range [][]byte{good, evil} {
		m, err := Read(data)
		if err != nil {
			t.Fatal(err)
		}
		ids[m.ID()] = m.Signer() != nil
	}
	if err := os.WriteFile(path, good, 0o644); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; err == nil && !stop.Load(); i++ {
			data := [][]byte{good, evil}[i%2]
			if i%4 < 2 {
				err = os.WriteFile(path, data, 0o644)
				continue
			}
			if err = os.WriteFile(path+".new", data, 0o644); err == nil {
				err = os.Rename(path+".new", path)
			}
		}
		done <- err
	}()
	seen := map[string]int{}
	for range 1000 {
		m, err := Open(path)
		if err != nil {
			code := string(finding.CodeOf(err))
			if code == "" {
				t.Fatal(err)
			}
			if strings.Contains(err.Error(), "was changed while it was read") {
				code = "changed while it was read"
			}
			seen[code]++
			continue
		}
		trusted, known := ids[m.ID()]
		if !known || trusted != (m.Signer() != nil) {
			t.Fatalf("a module %s that is neither, signed by %s", m.ID(), Fingerprint(m.Signer()))
		}
		code := m.Segments[0].Data[:2]
		if (m.Signer() != nil) == bytes.Equal(code, []byte{0x0f, 0x0b}) {
			t.Fatalf("signed: %v, with the code % x", m.Signer() != nil, code)
		}
		seen["signed: "+Fingerprint(m.Signer())]++
	}
	stop.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(seen) < 2 {
		t.Errorf("there was no race: %v", seen)
	}
	t.Log(seen)
}
