//go:build !sim

package agree

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pullaccept/tcpserver/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

const (
	large   = 900_000  // more than the system takes at once
	tooMuch = 32 << 20 // more than the systems of both ends take
)

func TestScenariosOnThisSystem(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			s := newStage(t)
			defer s.end()
			sc.play(s)
			want, got := strings.TrimPrefix(sc.want, "\n"), s.result()
			if !servertest.ResetsAreSeen() { // some are, some are not
				ends := strings.NewReplacer("then reset", "then EOF")
				want, got = ends.Replace(want), ends.Replace(got)
			}
			assert.Equal(t, want, got)
		})
	}
}

func pause(d time.Duration) { time.Sleep(d) }

func fail(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Fatalf(format, args...)
}

// A conn is a client by package net.
type conn struct {
	t *testing.T
	*net.TCPConn
}

func (s *stage) dial() client {
	return conn{s.t, servertest.Dial(s.t, s.server.Addr())}
}

func (c conn) Send(p []byte) error {
	_, err := c.Write(p)
	return err
}

func (c conn) Recv(p []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && isReset(err) {
		err = errReset
	}
	return n, err
}

func isReset(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}

func (c conn) CloseWrite() { c.TCPConn.CloseWrite() }
func (c conn) Close()      { c.TCPConn.Close() }
func (c conn) Reset()      { servertest.Reset(c.t, c.TCPConn) }
