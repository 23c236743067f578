package module

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"

	"github.com/darn-dev/darn/patcher/finding"
)

// A signature stands at the very end of a module's file, after all that ELF
// knows of, so that it is the same for what darn build and what a compiler made,
// and tools that read ELF pass over it:
//
//	signatureBegin, the public key, the signature, the length of what is signed
//	(64 bits, little endian), signatureEnd
//
// Signed, by plain Ed25519, is every byte before it.
const (
	signatureBegin = "\nDarn signed:\n\x00\x00"
	signatureEnd   = "\nDarn ends v1.\n\x00"
	signatureSize  = len(signatureBegin) + ed25519.PublicKeySize + ed25519.SignatureSize + 8 + len(signatureEnd)
)

// splitSignature returns a module's file without its signature, and whose that
// is, nil if there is none. It is refused with signature-invalid if it is not
// that of these bytes: whoever would take them anyhow could not tell a damaged
// file from one that somebody has tampered with.
func splitSignature(data []byte) (content []byte, signer ed25519.PublicKey, err error) {
	if len(data) < signatureSize {
		return data, nil, nil
	}
	content, s := data[:len(data)-signatureSize:len(data)-signatureSize], data[len(data)-signatureSize:]
	begins := bytes.HasPrefix(s, []byte(signatureBegin))
	ends := bytes.HasSuffix(s, []byte(signatureEnd))
	if !begins && !ends {
		return data, nil, nil
	}
	s = s[len(signatureBegin):]
	key, s := ed25519.PublicKey(s[:ed25519.PublicKeySize]), s[ed25519.PublicKeySize:]
	signature, s := s[:ed25519.SignatureSize], s[ed25519.SignatureSize:]
	if !begins || !ends || binary.LittleEndian.Uint64(s) != uint64(len(content)) || !ed25519.Verify(key, content, signature) {
		return nil, nil, finding.Refuse(finding.SignatureInvalid,
			"the module was changed after it was signed, or its signature was",
			"get the module anew from where it was signed; to use it as it is, build it and sign it again")
	}
	return content, key, nil
}

// Sign returns a module's file with a signature, in place of one that it may
// have. It is refused as Read would refuse the file.
func Sign(data []byte, key ed25519.PrivateKey) ([]byte, error) {
	if _, err := Read(data); err != nil {
		return nil, err
	}
	content, _, err := splitSignature(data)
	if err != nil {
		return nil, err
	}
	s := append(bytes.Clone(content), signatureBegin...)
	s = append(s, key.Public().(ed25519.PublicKey)...)
	s = append(s, ed25519.Sign(key, content)...)
	s = binary.LittleEndian.AppendUint64(s, uint64(len(content)))
	return append(s, signatureEnd...), nil
}

// Signer returns the key with which the bytes that the module was read from are
// signed, nil if they aren't. Whether to trust it is for others to say.
func (m *Module) Signer() ed25519.PublicKey { return m.signer }

// Fingerprint names a public key in a line, as SSH does: by the hash of its
// usual encoding (PKIX). It is "" for no key.
func Fingerprint(key ed25519.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || len(key) == 0 {
		return ""
	}
	sum := sha256.Sum256(der)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}
