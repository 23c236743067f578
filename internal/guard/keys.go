package guard

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/darn-dev/darn/patcher/module"
)

// Keys are files of PEM as OpenSSL writes and reads them: private ones PKCS #8,
// public ones PKIX.
const (
	privateType = "PRIVATE KEY"
	publicType  = "PUBLIC KEY"
	// PublicSuffix ends the names of files of public keys.
	PublicSuffix = ".pub"
)

// GenerateKey writes a new private key to path, which only its owner can read,
// and the public one beside it, with the suffix PublicSuffix. It writes over
// nothing. It returns the public key.
func GenerateKey(path string) (ed25519.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	open, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	if err := create(path, 0o600, &pem.Block{Type: privateType, Bytes: secret}); err != nil {
		return nil, err
	}
	if err := create(path+PublicSuffix, 0o644, &pem.Block{Type: publicType, Bytes: open}); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return public, nil
}

// create writes a file that is not there yet.
func create(path string, mode os.FileMode, block *pem.Block) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already, and a key is never written over", path)
	}
	if err != nil {
		return err
	}
	err = pem.Encode(f, block)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

// ReadPrivateKey reads a private key, unless others than its owner may read it
// too.
func ReadPrivateKey(path string) (ed25519.PrivateKey, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case fi.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("the private key %s can be used by others than its owner (mode %#o): chmod 600 it, and if others may have read it make a new one", path, fi.Mode().Perm())
	case !ok || int(st.Uid) != os.Geteuid() && st.Uid != 0:
		return nil, fmt.Errorf("the private key %s belongs to another user", path)
	}
	blocks, err := readPEM(f, path)
	if err != nil {
		return nil, err
	}
	if len(blocks) != 1 || blocks[0].Type != privateType {
		return nil, fmt.Errorf("%s is not the file of one private key (PEM, PKCS #8), as darn keygen writes it", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(blocks[0].Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is a key for another algorithm than Ed25519", path)
	}
	return private, nil
}

// maxKeyFile bounds a file of keys, in bytes.
const maxKeyFile = 1 << 20

func readPEM(f *os.File, path string) ([]*pem.Block, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%s is too big for a file of keys", path)
	}
	var blocks []*pem.Block
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return blocks, nil
		}
		blocks = append(blocks, b)
	}
}

// Keys are public keys that are trusted, with the files that they are in.
type Keys struct {
	path  string
	names map[string]string // file names by key
}

// ReadKeys reads the public keys in the file at path, or in the files of a
// directory whose names end in PublicSuffix. It fails if there are none, if one
// is no Ed25519 key, or if others than root and the owners given could change
// them.
func ReadKeys(path string, owners ...int) (*Keys, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := changeable(path, owners...); err != nil {
		return nil, fmt.Errorf("the keys in %s can't be trusted: %w", path, err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if fi.IsDir() {
		if files, err = filesIn(path); err != nil {
			return nil, err
		}
	}
	k := &Keys{path, make(map[string]string)}
	for _, file := range files {
		if err := k.read(file, owners); err != nil {
			return nil, err
		}
	}
	if len(k.names) == 0 {
		return nil, fmt.Errorf("there are no keys in %s: public keys are in files named *%s", path, PublicSuffix)
	}
	return k, nil
}

// filesIn returns the files of public keys in a directory.
func filesIn(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), PublicSuffix) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, err
}

func (k *Keys) read(file string, owners []int) error {
	if err := changeable(file, owners...); err != nil {
		return fmt.Errorf("the keys in %s can't be trusted: %w", file, err)
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	blocks, err := readPEM(f, file)
	if err != nil {
		return err
	}
	if len(blocks) == 0 {
		return fmt.Errorf("%s has no public key (PEM, PKIX), as darn keygen writes it", file)
	}
	for _, b := range blocks {
		key, err := x509.ParsePKIXPublicKey(b.Bytes)
		if b.Type != publicType || err != nil {
			return fmt.Errorf("%s holds something else than public keys (PEM, PKIX): %s %v", file, b.Type, err)
		}
		public, ok := key.(ed25519.PublicKey)
		if !ok {
			return fmt.Errorf("%s holds a key for another algorithm than Ed25519", file)
		}
		k.names[string(public)] = filepath.Base(file)
	}
	return nil
}

// Name returns the name of the file that a key is in; ok is false if it is not
// among k.
func (k *Keys) Name(key ed25519.PublicKey) (name string, ok bool) {
	name, ok = k.names[string(key)]
	return name, ok
}

// SignFile signs the module in the file at path, in one step for whoever reads
// it, and returns its signer before, "" if there was none.
func SignFile(path string, key ed25519.PrivateKey) (before string, err error) {
	// A link stays one.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	f, err := module.OpenFile(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	data, err := module.Bytes(f)
	if err != nil {
		return "", err
	}
	m, err := module.Read(data)
	if err != nil {
		return "", err
	}
	if data, err = module.Sign(data, key); err != nil {
		return "", err
	}
	return module.Fingerprint(m.Signer()), replace(path, data, fi.Mode().Perm())
}

// replace writes a file in one step for whoever reads it.
func replace(path string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
