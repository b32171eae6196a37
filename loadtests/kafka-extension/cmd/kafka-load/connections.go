package main

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

const (
	budget     = time.Second // for the first answer at a rate
	idleBefore = 500         // idle connections that are there before memory is looked at
	handshakes = 4000        // connections one kind of which is measured by
	atOnce     = 8           // of those
)

// many is what became of many connections.
type many struct {
	lock            sync.Mutex
	answered, ready times // until the answer to ApiVersions; until the login is done; both from the begin
	failed          map[string]int
	open            []*wire
}

// one connection: dial, ApiVersions, and a login where as is given.
func (m *many) one(to string, secure *tls.Config, as *scrammer, keep bool) {
	begin := time.Now()
	var answered time.Duration
	w, err := dial(to, secure)
	if err == nil {
		err = w.versions()
		answered = time.Since(begin)
	}
	if err == nil && as != nil {
		err = w.login(as)
	}
	ready := time.Since(begin)
	m.lock.Lock()
	defer m.lock.Unlock()
	if answered > 0 {
		m.answered = append(m.answered, answered)
	}
	switch {
	case err != nil:
		if m.failed == nil {
			m.failed = map[string]int{}
		}
		m.failed[kind(err)]++
	default:
		m.ready = append(m.ready, ready)
	}
	if w != nil && keep && err == nil {
		m.open = append(m.open, w)
	} else if w != nil {
		w.Close()
	}
}

func (m *many) close() {
	for _, w := range m.open {
		w.Close()
	}
}

func (m *many) late() int {
	late := 0
	for _, t := range m.answered {
		if t > budget {
			late++
		}
	}
	return late
}

// connections measures, in this order, because memory that was once used is not given back: idle ones, logins, a rate, a
// storm.
func connections(s settings) error {
	secure, err := s.through("TLS").Secure()
	if err != nil {
		return err
	}
	// What dial does not know: the name in the certificate.
	secure.ServerName = "127.0.0.1"
	config := s.through("TLS")
	sha512 := newScrammer("SCRAM-SHA-512", config.User, config.Password)
	sha256 := newScrammer("SCRAM-SHA-256", config.User, config.Password)
	s.measureIdle(secure, sha512)
	s.measureLogins(secure, sha256, sha512)
	failed := s.measureRate(secure, sha512)
	s.measureStorm(secure, sha512)
	if failed > 0 {
		return fmt.Errorf("%d connections at a rate of %d/s failed or waited longer than %s for their first answer", failed, s.rate, budget)
	}
	return nil
}

func (s settings) measureIdle(secure *tls.Config, as *scrammer) {
	var m many
	defer m.close()
	s.inParallel(idleBefore, func() { m.one(s.gate, secure, as, true) })
	before := resident(s.gatePid)
	s.inParallel(s.idle, func() { m.one(s.gate, secure, as, true) })
	grown := resident(s.gatePid) - before
	fmt.Printf("idle       %d connections over TLS, authenticated: %.1f KiB each (%.1f MiB, then %.1f)%s\n", len(m.open),
		float64(grown)/1024/float64(s.idle), float64(before)/(1<<20), float64(before+grown)/(1<<20), fails(m.failed))
}

// measureLogins takes the gate's CPU of connections with and without a login.
func (s settings) measureLogins(secure *tls.Config, sha256, sha512 *scrammer) {
	measure := func(what string, over *tls.Config, as *scrammer) {
		var m many
		begin, before := time.Now(), cpu(s.gatePid)
		s.inParallel(handshakes, func() { m.one(s.gate, over, as, false) })
		took, used := time.Since(begin), cpu(s.gatePid)-before
		fmt.Printf("connection %-42s %4d µs of the gate's CPU, %5.0f/s%s\n", what, used.Microseconds()/handshakes,
			handshakes/took.Seconds(), fails(m.failed))
	}
	measure("TCP, ApiVersions", nil, nil)
	measure("TCP, ApiVersions, SCRAM-SHA-256", nil, sha256)
	measure("TCP, ApiVersions, SCRAM-SHA-512", nil, sha512)
	measure("TCP, TLS 1.3, ApiVersions", secure, nil)
	measure("TCP, TLS 1.3, ApiVersions, SCRAM-SHA-512", secure, sha512)
}

// measureRate opens connections at a rate, whatever becomes of those before. Comes back with how many did not do well.
func (s settings) measureRate(secure *tls.Config, as *scrammer) int {
	var m many
	var all sync.WaitGroup
	total := int(s.each.Seconds() * float64(s.rate))
	begin, gate, own := time.Now(), cpu(s.gatePid), ownCPU()
	for i := range total {
		time.Sleep(time.Until(begin.Add(time.Second * time.Duration(i) / time.Duration(s.rate))))
		all.Go(func() { m.one(s.gate, secure, as, false) })
	}
	sent := time.Since(begin)
	all.Wait()
	share := func(used time.Duration) float64 { return 100 * used.Seconds() / time.Since(begin).Seconds() }
	bad := total - len(m.ready) + m.late()
	fmt.Printf("rate       %d new connections in %.1f s (%.0f/s): first answer p50 %s p99 %s max %s ms, login done p99 %s max %s ms\n",
		total, sent.Seconds(), float64(total)/sent.Seconds(), m.answered.at(0.5), m.answered.at(0.99), m.answered.at(1), m.ready.at(0.99), m.ready.at(1))
	fmt.Printf("           %d later than %s, %d failed%s; of one core the gate used %.0f %%, this client %.0f %%\n",
		m.late(), budget, total-len(m.ready), fails(m.failed), share(cpu(s.gatePid)-gate), share(ownCPU()-own))
	return bad
}

// measureStorm opens all of them at once, and keeps them until the last is there.
func (s settings) measureStorm(secure *tls.Config, as *scrammer) {
	var m many
	defer m.close()
	var all sync.WaitGroup
	start := make(chan struct{})
	for range s.storm {
		all.Go(func() {
			<-start
			m.one(s.gate, secure, as, true)
		})
	}
	begin, gate, own := time.Now(), cpu(s.gatePid), ownCPU()
	close(start)
	all.Wait()
	took := time.Since(begin)
	fmt.Printf("storm      %d connections at once: %d authenticated after %.1f s; first answer p50 %s p99 %s max %s ms, login done p50 %s max %s ms\n",
		s.storm, len(m.ready), took.Seconds(), m.answered.at(0.5), m.answered.at(0.99), m.answered.at(1), m.ready.at(0.5), m.ready.at(1))
	fmt.Printf("           CPU: the gate %.1f s, this client %.1f s%s\n", (cpu(s.gatePid) - gate).Seconds(), (ownCPU() - own).Seconds(), fails(m.failed))
}

// inParallel does something n times, a few at once.
func (s settings) inParallel(n int, what func()) {
	turns := make(chan struct{}, n)
	for range n {
		turns <- struct{}{}
	}
	close(turns)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for range turns {
				what()
			}
		})
	}
	all.Wait()
}

func fails(failed map[string]int) string {
	said := ""
	for why, n := range failed {
		said += fmt.Sprintf("; FAILED %d: %s", n, why)
	}
	return said
}
