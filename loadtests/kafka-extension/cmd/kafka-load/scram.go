package main

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"
)

// scrammer logs one user in again and again (RFC 5802). It stretches the password once: thousands of producers do that
// on machines of their own, and here it would be all that is measured.
type scrammer struct {
	mechanism      string
	hash           func() hash.Hash
	user, password string
	lock           sync.Mutex
	salted         map[string][]byte // by salt and iterations
}

func newScrammer(mechanism, user, password string) *scrammer {
	s := &scrammer{mechanism: mechanism, hash: sha256.New, user: user, password: password, salted: map[string][]byte{}}
	if mechanism == "SCRAM-SHA-512" {
		s.hash = sha512.New
	}
	return s
}

// login does one exchange; ask sends a message and comes back with the answer.
func (s *scrammer) login(ask func(string) (string, error)) error {
	bare := "n=" + s.user + ",r=" + rand.Text()
	first, err := ask("n,," + bare)
	if err != nil {
		return err
	}
	nonce, rest, _ := strings.Cut(strings.TrimPrefix(first, "r="), ",s=")
	salt, iterations, _ := strings.Cut(rest, ",i=")
	key, err := s.stretch(salt, iterations)
	if err != nil {
		return err
	}
	final := "c=biws,r=" + nonce
	said := bare + "," + first + "," + final
	ours := s.mac(key, "Client Key")
	stored := s.hash()
	stored.Write(ours)
	for i, b := range s.mac(stored.Sum(nil), said) {
		ours[i] ^= b
	}
	last, err := ask(final + ",p=" + base64.StdEncoding.EncodeToString(ours))
	if err != nil {
		return err
	}
	theirs := base64.StdEncoding.EncodeToString(s.mac(s.mac(key, "Server Key"), said))
	if last != "v="+theirs {
		return errors.New("the server has not shown that it knows the password")
	}
	return nil
}

func (s *scrammer) stretch(salt, iterations string) ([]byte, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if known, is := s.salted[salt+iterations]; is {
		return known, nil
	}
	bytes, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		return nil, fmt.Errorf("salt: %w", err)
	}
	n, err := strconv.Atoi(iterations)
	if err != nil {
		return nil, fmt.Errorf("iterations: %w", err)
	}
	key, err := pbkdf2.Key(s.hash, s.password, bytes, n, s.hash().Size())
	s.salted[salt+iterations] = key
	return key, err
}

func (s *scrammer) mac(key []byte, text string) []byte {
	mac := hmac.New(s.hash, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
